using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines;

/// <summary>Where a chipset has its hot-plug registers, and which buses they are for.</summary>
/// <param name="CpuPort">The processors'; <paramref name="PciPort"/> the buses'.</param>
/// <param name="IsForRoot">The root bus.</param>
/// <param name="IsForBridges">The buses behind the bridges and ports that the board has from the start.</param>
sealed record AcpiHotPlugPlan(ushort PciPort, ushort CpuPort, bool IsForRoot, bool IsForBridges);

/// <summary>What comes and goes while the machine runs, as ACPI has it: the chipset's registers, and the tables that
/// use them.</summary>
sealed class AcpiHotPlug
{
    readonly Board _board;
    readonly AcpiHotPlugPlan _plan;
    readonly AcpiPciHotPlug? _pci;

    /// <param name="gpe">Of the chip that has the registers.</param>
    /// <param name="parts">Of the same: what it resets and saves.</param>
    public AcpiHotPlug(Board board, GpeBlock gpe, List<IDevice> parts, AcpiHotPlugPlan plan)
    {
        (_board, _plan) = (board, plan);
        Cpus = new AcpiCpuHotPlug(board.ApicIds, gpe, board.EjectCpu, board.TellOfCpu);
        parts.Add(Cpus);
        board.Ports.Map(plan.CpuPort,
            MemoryRegion.Io("acpi-cpu-hotplug", AcpiCpuHotPlug.Size, Cpus, AccessSizes.UpToDword));
        if (board.Config.Memory.Slots is > 0 and var slots)
        {
            Memory = new AcpiMemoryHotPlug(slots, gpe, board.EjectDimm, board.TellOfDimm);
            parts.Add(Memory);
            board.Ports.Map(AcpiMemoryHotPlug.Port,
                MemoryRegion.Io("acpi-mem-hotplug", AcpiMemoryHotPlug.Size, Memory, AccessSizes.UpToDword));
        }
        if (board.Config.Nvdimm != null)
            board.Ports.Map(NvdimmMethods.Port, MemoryRegion.Io("nvdimm-acpi-io", NvdimmMethods.Size,
                new NvdimmMethods(board.Memory, handle => board.Nvdimms.FirstOrDefault(one => one.Handle == handle)),
                AccessSizes.UpToDword));
        if (!plan.IsForRoot && !plan.IsForBridges) return;
        _pci = new AcpiPciHotPlug(gpe, board.Eject);
        parts.Add(_pci);
        board.Ports.Map(plan.PciPort,
            MemoryRegion.Io("acpi-pci-hotplug", AcpiPciHotPlug.Size, _pci, AccessSizes.UpToDword));
    }

    public AcpiCpuHotPlug Cpus { get; }

    /// <summary>Null where there are no slots.</summary>
    public AcpiMemoryHotPlug? Memory { get; }

    /// <summary>Once the devices are there that users asked for: the buses' numbers follow from them.</summary>
    public void AttachBuses(PciBus root)
    {
        if (_plan.IsForRoot) _pci!.Attach(root);
        if (_plan.IsForBridges) AttachBehind(root);
    }

    /// <summary>Asked to go, and to be gone with the next reset.</summary>
    public IEnumerable<PciDevice> Leaving => _pci?.Leaving.Where(_pci.IsEjectable) ?? [];

    /// <summary>For the root of \_SB.</summary>
    public Aml[] Terms() =>
    [
        .. _pci == null ? []
            : new PciHotPlugTables(_pci, _plan.PciPort, _board.Pci!, _board.IsHotPluggable).Terms(),
        .. CpuHotPlugTables.Terms(_board.ApicIds, _plan.CpuPort, _board.Config.Numa),
        .. Memory == null ? [] : MemoryHotPlugTables.Terms(_board.Config.Memory.Slots),
    ];

    /// <summary>A port whose user wants no hot-plug has no controller to take over from.</summary>
    void AttachBehind(PciBus bus)
    {
        foreach (PciBridge bridge in bus.Devices.OfType<PciBridge>())
        {
            if (!bridge.Secondary.IsExpress || bridge.Secondary.HotPlug != null) _pci!.Attach(bridge.Secondary);
            AttachBehind(bridge.Secondary);
        }
    }
}
