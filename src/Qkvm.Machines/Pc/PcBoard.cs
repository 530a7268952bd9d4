using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using Qkvm.Hw.Storage;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Pc;

/// <summary>The i440FX PC: an Intel 440FX host bridge, and a PIIX3 with ISA bus, IDE and the PIIX4's power
/// management.</summary>
public sealed class PcBoard : Board
{
    const int SciIrq = 9, PrimaryIdeIrq = 14, SecondaryIdeIrq = 15;
    const uint HpetRoutes = 1 << 2;
    internal const string PmDriver = "PIIX4_PM", RootHotPlug = "acpi-root-pci-hotplug",
        BridgeHotPlug = "acpi-pci-hotplug-with-bridge-support";
    const ushort PciHotPlugPort = 0xAE00, CpuHotPlugPort = 0xAF00;
    const int IsaSlot = 1, IdeFunction = 1, PmFunction = 3;

    readonly Piix4Pm? _powerManagement;                            // none without ACPI
    readonly I440Fx _hostBridge;
    readonly IsaChips _chips;

    /// <param name="memory">Its RAM; disposed of with the board.</param>
    public PcBoard(BoardParts parts, MachineRam memory)
        : base(parts, new PcMemory(memory, PcParts.Bios(parts), parts.Lock, config: parts.Config.Memory,
            hasSmm: parts.Config.Smm, limits: parts.Limits))
    {
        using (Memory.Batch())
        using (Ports.Batch())
        {
            var isaBridge = new Piix3([.. Enumerable.Range(0, 16).Select(Irq)], () => RequestReset());
            Pci = new PciBus("pci.0", Layout.Pci, Ports.Root, Memory, Msi, Piix3.RouteSlot,
                [.. Enumerable.Range(0, Piix3.Inputs).Select<int, Action<bool>>(
                    input => active => isaBridge.SetInput(input, active))])
                { Log = parts.Log, TakesExpanders = true };
            var pci = new QBus(Pci.Id, BusKind.Pci, Pci);
            var isa = new QBus("isa.0", BusKind.Isa);
            PciHostPorts host = Own("i440FX-pcihost", Tree, new PciHostPorts(Pci, Ports, isaBridge.ResetControl), pci);
            Describe(host, "PCI0", () => PcAcpi.HostBridge(Layout, Pci));
            Plug("i440FX", pci, _hostBridge = new I440Fx(Memory, Layout.RamRegion, Layout.Pci, Layout.Smm), 0, 0);
            Plug("PIIX3", pci, isaBridge, IsaSlot, 0, isa);
            Describe(isaBridge, "ISA", PcAcpi.IsaBridge);
            var globals = new ChipGlobals(Config, PmDriver);
            if (Config.Acpi)
            {
                _powerManagement = new Piix4Pm(Clock, Ports, Irq(SciIrq),
                    Sleep, Config.Smm ? () => SendSmi(toAll: false) : null);
                SleepStates = SleepStatesOf(globals, _powerManagement.Acpi);
                Plug(PmDriver, pci, _powerManagement, IsaSlot, PmFunction);
                HotPlug = new AcpiHotPlug(this, _powerManagement.Gpe, _powerManagement.GpeParts,
                    new AcpiHotPlugPlan(PciHotPlugPort, CpuHotPlugPort, globals.Bool(RootHotPlug, true),
                    globals.Bool(BridgeHotPlug, true)));
            }
            var ide = new Piix3Ide(Ports, Irq(PrimaryIdeIrq), Irq(SecondaryIdeIrq));
            Plug("piix3-ide", pci, ide, IsaSlot, IdeFunction,
                [.. ide.Channels.Select(channel => new QBus(channel.Id, BusKind.Ide, channel))]);
            _chips = new IsaChips(this, isa, Config.Hpet ? HpetRoutes : null, hasFloppies: true);
        }
        MakeCpus(_chips.Coprocessor);
        Firmware.AddNumbers(SleepStates);
        MakeDevices();
        HotPlug?.AttachBuses(Pci);
        Firmware.AddRoots(Pci);
        Firmware.AddTables("Standard PC (i440FX + PIIX, 1996)", this, AcpiChipset, () => PcAcpi.Links(Pci));
        Firmware.AddRest(BootOrder);
        _chips.DescribeInCmos(this);
    }

    public override PciBus Pci { get; }

    AcpiChipset AcpiChipset() => new(
        _powerManagement is { Base: not 0 and var at } ? at : Machines.Firmware.AcpiChipset.DefaultPmBase,
        Piix4Pm.AcpiEnable, Piix4Pm.AcpiDisable, (uint)Piix4Pm.GpePort, Piix4Pm.GpeLength, ResetValue: 6);

    public override bool TakesGenerationId => Config.Acpi;
    public override void SetBootOrder(string letters) => _chips.SetBootOrder(letters);

    private protected override bool TakesMemory => true;

    private protected override AcpiRegisters? Acpi => _powerManagement?.Acpi;

    private protected override IEnumerable<(PciDevice, IEnumerable<(int, byte[])>)> KeptInSleep =>
        [(_hostBridge, _hostBridge.KeptInSleep)];

    private protected override void OnSleep() => _chips.ExpectWakeUp();

    protected override void OnCpusChanged()
    {
        base.OnCpusChanged();
        _chips.CountCpus(Cpus.Count);
    }

    protected override void OnReset(bool isFirst) => _chips.OnReset(isFirst);

    void Plug(string driver, QBus bus, PciDevice function, int slot, int number, params QBus[] buses)
    {
        Own(driver, bus, function, buses);
        Pci.Plug(function, slot << 3 | number);
    }
}
