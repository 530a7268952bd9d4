using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using Qkvm.Hw.Virtio;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Firmware.Boot;
using Qkvm.Machines.Pc;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Microvm;

/// <summary>A machine without a chipset: RAM, interrupt controllers, a few chips of the PC/AT, virtio devices in
/// memory, and hardware-reduced ACPI. A kernel that users name is entered directly; otherwise there is
/// firmware.</summary>
/// <remarks>Deviations: -kernel needs no firmware, unless -bios gives one; with the timer there is port 61h, by which
/// kernels measure the processor's clock.</remarks>
public sealed class MicrovmBoard : Board
{
    const string DefaultFirmware = "bios-microvm.bin";
    const ulong TablesAddress = 0xE_0000, MpTableAddress = 0xF_0000, ResetVector = 0xF_FFF0;

    /// <summary>What runs where kernels that know no better way to restart jump to firmware: cli; lidt cs:[FFF8h],
    /// which is zeros; int3. The processor shuts down, and that resets the machine.</summary>
    static ReadOnlyMemory<byte> ResetCode { get; } = new byte[]
        { 0xFA, 0x2E, 0x0F, 0x01, 0x1E, 0xF8, 0xFF, 0xCC, 0, 0, 0, 0, 0, 0, 0, 0 };

    readonly MicrovmPlan _plan;
    readonly MicrovmPcie? _pcie;
    readonly GenericEventDevice? _power;                           // none without ACPI
    readonly List<VirtioMmio> _transports = [];                    // the highest address first
    readonly MicrovmChips _chips;
    BootImage? _boot;                                              // of the start that is being made

    /// <param name="memory">Its RAM; disposed of with the board.</param>
    public MicrovmBoard(BoardParts parts, MachineRam memory, MicrovmPlan plan) : base(parts, new PcMemory(memory,
        FirmwareOf(parts.Config), parts.Lock, MicrovmPlan.Memory), new InterruptPlan(plan.IoApics, plan.HasPic))
    {
        _plan = plan;
        using (Memory.Batch())
        using (Ports.Batch())
        {
            if (Config.Acpi) _power = NewPower();
            for (int i = plan.Transports - 1; i >= 0; i--) _transports.Add(NewTransport(i));
            if (plan.HasPcie) _pcie = new MicrovmPcie(this, plan.IoApics > 1);
            var isa = new QBus("isa.0", BusKind.Isa);
            HoldBus("isabus-bridge", isa, "PNP0A05");
            _chips = new MicrovmChips(this, isa, plan.HasPit, plan.HasRtc);
        }
        MakeCpus();
        Firmware.AddNumbers(SleepStates);
        MakeDevices(plan.HasSerial ? 1 : null, parallelPorts: 0);
        _chips.DescribeInCmos(this);
        if (IsDirect) return;
        if (Config.Acpi) AcpiFiles().AddTo(FirmwareConfiguration);
        Firmware.AddRest(BootOrder, CommandLineTail(), plan.HasOptionRoms);
    }

    public override PciBus? Pci => _pcie?.Bus;

    /// <summary>Nothing happens on a machine without ACPI.</summary>
    public override void PressPowerButton() => _power?.PressPowerButton();

    /// <summary>A kernel and no firmware.</summary>
    bool IsDirect => Config.Kernel != null && Config.Firmware.Bios == null;

    protected override void OnReset(bool isFirst)
    {
        Layout.ReloadFirmware();
        if (!IsDirect) return;
        _boot = BuildBoot(Config.Kernel!);
        _boot.Load(Layout);
    }

    public override void StartCpus()
    {
        _boot?.Entry.Enter(Cpus[0]);
        _boot = null;                                              // as large as the kernel, and made anew when needed
    }

    static byte[] FirmwareOf(MachineConfig config) => config switch
    {
        { Firmware.Bios: not null } => FirmwareImages.FindBios(config.Firmware),
        { Kernel: not null } => [],
        _ => FirmwareImages.FindBios(config.Firmware with { Bios = DefaultFirmware }),
    };

    GenericEventDevice NewPower()
    {
        var power = new GenericEventDevice(Irq(MicrovmPlan.PowerGsi),
            () => RequestShutdown(ShutdownCause.GuestShutdown), () => RequestReset());
        Own(GenericEventDevice.Driver, Tree, power);
        power.MapAt(MicrovmPlan.PowerAddress, Memory);
        Describe(power, "GED", () => GenericEventDevice.Describe(MicrovmPlan.PowerAddress, MicrovmPlan.PowerGsi));
        Describe(power, "PWRB", GenericEventDevice.DescribeButton);
        return power;
    }

    VirtioMmio NewTransport(int number)
    {
        ulong address = AddressOf(number);
        int gsi = GsiOf(number);
        var transport = new VirtioMmio(number, Memory, address, Irq(gsi), _plan.IsLegacy, Lock);
        Own(VirtioMmio.Driver, Tree, transport, transport.Bus);
        return transport;
    }

    static ulong AddressOf(int number) => MicrovmPlan.VirtioAddress + (ulong)number * VirtioMmio.RegionSize;
    int GsiOf(int number) => _plan.VirtioGsi(Config.Acpi) + number;

    /// <summary>Numbers of the transports that have a device, the highest first, as QEMU names them.</summary>
    IEnumerable<int> Used => _transports.Where(t => t.Device != null).Select(t => _transports.Count - 1
        - _transports.IndexOf(t));

    /// <summary>Linux, Documentation/admin-guide/kernel-parameters.txt: virtio_mmio.device=.</summary>
    string CommandLineTail() => !_plan.NamesDevices ? "" : string.Concat(Used.Select(number =>
        $" virtio_mmio.device={VirtioMmio.RegionSize}@0x{AddressOf(number):x}:{GsiOf(number)}"));

    AcpiTables.Files AcpiFiles() => AcpiTables.Build(new AcpiPlatform
    {
        ApicIds = ApicIds,
        IsCpuPresent = IsCpuPresent,
        UserTables = Firmware.UserTables,
        Reduced = new ReducedHardware(MicrovmPlan.PowerAddress + GenericEventDevice.SleepControl,
            MicrovmPlan.PowerAddress + GenericEventDevice.SleepStatus,
            MicrovmPlan.PowerAddress + GenericEventDevice.ResetRegister, GenericEventDevice.ResetValue, _plan.HasRtc),
        Ecam = _pcie?.Ecam,
        IoApics = _plan.IoApics,
        LevelIrqs = [],
        Hpet = false,
        Tree = Tree,
        Terms = [.. Used.Select(DescribeTransport)],
    });

    Aml DescribeTransport(int number) => Device($"VR{number:00}",
        Name("_HID", Text("LNRO0005")),
        Name("_UID", number),
        Name("_CCA", 1),
        Name("_CRS", AmlResource.Template(
            AmlResource.Memory32((uint)AddressOf(number), VirtioMmio.RegionSize, writable: true),
            AmlResource.Interrupt(GsiOf(number), isEdge: false))));

    BootImage BuildBoot(KernelConfig kernel)
    {
        var extra = new List<ElfImage.Segment> { BootImage.Part(ResetVector, ResetCode) };
        ulong rsdp = 0;
        if (Config.Acpi)
        {
            var placed = new PlacedTables(AcpiFiles(), TablesAddress, PcMemory.FirstMiB);
            extra.AddRange(placed.Parts);
            rsdp = placed.Rsdp;
        }
        else extra.Add(BootImage.Part(MpTableAddress, MpTable.Build((uint)MpTableAddress,
            [.. Enumerable.Range(0, Config.Topology.Cpus).Select(Config.Topology.ApicId)])));
        byte[] file = PcFirmware.ReadFile(kernel.File, "-kernel");
        var information = new BootInformation(kernel.File, kernel.Append + CommandLineTail(),
            kernel.Initrd is { } initrd ? PcFirmware.ReadFile(initrd, "-initrd") : null, kernel.Initrd, MemoryMap(),
            Layout.Below, rsdp);
        BootImage image = ElfImage.HasMagic(file) ? PvhKernel.Build(file, information)
            : LinuxKernel.Build(file, information);
        return image with { Segments = [.. image.Segments, .. extra] };
    }

    /// <summary>What the tables take below 1 MiB is not the kernel's.</summary>
    MemoryRange[] MemoryMap()
    {
        const ulong baseEnd = 0x9_FC00;
        return
        [
            new(0, baseEnd, MemoryRange.Usable),
            new(baseEnd, PcMemory.FirstMiB - baseEnd, MemoryRange.Reserved),
            new(PcMemory.FirstMiB, Layout.Below - PcMemory.FirstMiB, MemoryRange.Usable),
            .. Firmware.ReservedRanges,
            .. Layout.Above == 0 ? [] : new MemoryRange[] { new(PcMemory.FourGiB, Layout.Above, MemoryRange.Usable) },
        ];
    }
}
