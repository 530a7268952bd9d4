using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using Qkvm.Hw.Storage;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Q35;

/// <summary>The Q35 PC: a memory controller hub with PCI Express, and an ICH9 with LPC bus, SATA, SMBus and power
/// management.</summary>
public sealed class Q35Board : Board
{
    const string LpcDriver = "ICH9-LPC", NoReboot = "noreboot", Broadcast = "x-smi-broadcast", MchDriver = "mch",
        ExtendedTseg = "extended-tseg-mbytes", SmBaseRam = "smbase-smram",
        BridgeHotPlug = "acpi-pci-hotplug-with-bridge-support";
    const ushort PciHotPlugPort = 0x0CC0, CpuHotPlugPort = 0x0CD8;

    static readonly string[] s_hotplug = ["x-smi-cpu-hotplug", "x-smi-cpu-hotunplug"];

    /// <summary>Of -global.</summary>
    internal static readonly string[] Globals =
    [
        $"{LpcDriver}.{NoReboot}", $"{LpcDriver}.{Broadcast}", $"{LpcDriver}.{BridgeHotPlug}",
        $"{MchDriver}.{ExtendedTseg}", $"{MchDriver}.{SmBaseRam}",
        .. s_hotplug.Select(name => $"{LpcDriver}.{name}"), .. SleepStates.Globals(LpcDriver),
    ];

    const uint HpetRoutes = 0xFF0104;                              // GSI 2, 8 and 16 to 23
    const int IchSlot = 31, LpcFunction = 0, SataFunction = 2, SmbusFunction = 3;

    readonly Ich9Pm _powerManagement;
    readonly Ich9Lpc _lpc;
    readonly Mch _mch;
    readonly IsaChips _chips;

    /// <param name="memory">Its RAM; disposed of with the board.</param>
    public Q35Board(BoardParts parts, MachineRam memory) : base(parts, new PcMemory(memory,
        PcParts.Bios(parts), parts.Lock, PcMemoryPlan.Q35, parts.Config.Memory, parts.Config.Smm, parts.Limits))
    {
        var lpcGlobals = new ChipGlobals(Config, LpcDriver);
        using (Memory.Batch())
        using (Ports.Batch())
        {
            var tco = new Ich9Tco(Clock, () => { if (!_lpc!.IsRebootForbidden) RequestWatchdog(); });
            _powerManagement = new Ich9Pm(Clock, Ports, Sleep, tco,
                Config.Smm ? () => SendSmi(_lpc!.Smi.IsBroadcast) : null);
            SleepStates = SleepStatesOf(lpcGlobals, _powerManagement.Acpi);
            _lpc = new Ich9Lpc(Irq, _powerManagement, () => RequestReset(), lpcGlobals.Bool(NoReboot, true),
                OfferSmiFeatures(lpcGlobals));
            Pci = new PciBus("pcie.0", Layout.Pci, Ports.Root, Memory, Msi, _lpc.RouteSlot,
                [.. Enumerable.Range(0, Ich9Lpc.Inputs).Select<int, Action<bool>>(
                    input => active => _lpc.SetInput(input, active))])
                { Log = parts.Log, TakesExpanders = true };
            _mch = new Mch(Memory, Layout.RamRegion, Layout.Pci, Pci, Layout.Smm, SmramOptions());
            var pci = new QBus(Pci.Id, BusKind.PciExpress, Pci);
            var isa = new QBus("isa.0", BusKind.Isa);
            PciHostPorts host = Own("q35-pcihost", Tree, new PciHostPorts(Pci, Ports, _lpc.ResetControl), pci);
            bool acpiHotPlug = lpcGlobals.Bool(BridgeHotPlug, true);
            // the first has what is on the bus
            Describe(host, "PCI0", () => Q35Acpi.HostBridge(Layout, Pci, _mch.Ecam, hasNativeHotPlug: !acpiHotPlug));
            Describe(host, "DRAC", () => Q35Acpi.ConfigurationSpace(_mch.Ecam));
            Plug(MchDriver, pci, _mch, 0, 0);
            Plug(LpcDriver, pci, _lpc, IchSlot, LpcFunction, isa);
            Describe(_lpc, "ISA", Q35Acpi.IsaBridge);
            HotPlug = new AcpiHotPlug(this, _powerManagement.Gpe, _powerManagement.GpeParts,
                new AcpiHotPlugPlan(PciHotPlugPort, CpuHotPlugPort, IsForRoot: false, acpiHotPlug));
            var sata = new Ahci(port => $"ide.{port}", firstPlace: 0) { IsMultifunction = true };
            Plug(Ahci.Model.Name, pci, sata, IchSlot, SataFunction, [.. sata.Buses]);
            Plug("ICH9-SMB", pci, new Ich9Smbus(), IchSlot, SmbusFunction);
            _chips = new IsaChips(this, isa, Config.Hpet ? HpetRoutes : null);
        }
        MakeCpus(_chips.Coprocessor);
        Firmware.AddNumbers(SleepStates);
        MakeDevices();
        HotPlug!.AttachBuses(Pci);
        Firmware.AddRoots(Pci);
        Firmware.AddTables("Standard PC (Q35 + ICH9, 2009)", this, AcpiChipset, () => Q35Acpi.Links(_lpc, Pci));
        Firmware.AddRest(BootOrder);
        _chips.DescribeInCmos(this);
    }

    public override PciBus Pci { get; }
    public override bool TakesIommu => true;
    public override bool TakesGenerationId => Config.Acpi;

    public override void SetBootOrder(string letters) => _chips.SetBootOrder(letters);

    private protected override bool TakesMemory => true;

    private protected override bool HoldsCpus => _lpc.Smi.IsBroadcast;

    private protected override AcpiRegisters? Acpi => _powerManagement.Acpi;

    private protected override IEnumerable<(PciDevice, IEnumerable<(int, byte[])>)> KeptInSleep =>
        [(_mch, _mch.KeptInSleep), (_lpc, _lpc.KeptInSleep)];

    private protected override void OnSleep() => _chips.ExpectWakeUp();

    protected override void OnCpusChanged()
    {
        base.OnCpusChanged();
        _chips.CountCpus(Cpus.Count);
    }

    protected override void OnReset(bool isFirst) => _chips.OnReset(isFirst);

    AcpiChipset AcpiChipset()
    {
        uint at = _lpc.PowerManagementBase is not 0 and var placed ? placed
            : Machines.Firmware.AcpiChipset.DefaultPmBase;
        return new(at, Ich9Pm.AcpiEnable, Ich9Pm.AcpiDisable, at + (uint)Ich9Pm.GpeOffset, Ich9Pm.GpeLength,
            ResetValue: 0x0F) { Ecam = _mch.Ecam };
    }

    MchSmramOptions SmramOptions()
    {
        const int mostMegabytes = 0xFFF;
        var globals = new ChipGlobals(Config, MchDriver);
        return new(Layout.Below, (ushort)globals.Number(ExtendedTseg, 16, 0, mostMegabytes),
            globals.Bool(SmBaseRam, true));
    }

    /// <remarks>Deviation: that firmware is told of processors that come and go is not offered.</remarks>
    SmiFeatures OfferSmiFeatures(ChipGlobals globals)
    {
        foreach (string property in s_hotplug)
            globals.Refuse(property, value => Options.ParseBool(value) == false,
                "firmware is not told of processors that come and go; leave it out or give off");
        bool offers = Config.Smm && globals.Bool(Broadcast, true);
        var smi = new SmiFeatures(offers ? SmiFeatures.Broadcast : 0);
        if (!offers) return smi;
        FirmwareConfiguration.AddFile("etc/smi/supported-features", smi.Offered);
        FirmwareConfiguration.AddWritableFile("etc/smi/requested-features", smi.Requested, () => smi.IsOpen);
        FirmwareConfiguration.AddFile("etc/smi/features-ok", smi.Accepted);
        FirmwareConfiguration.OnSelect("etc/smi/features-ok", smi.Agree);
        return smi;
    }

    void Plug(string driver, QBus bus, PciDevice function, int slot, int number, params QBus[] buses)
    {
        Own(driver, bus, function, buses);
        Pci.Plug(function, slot << 3 | number);
    }
}
