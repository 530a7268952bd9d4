using Qkvm.Core.Acpi;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Firmware;
using static Qkvm.Core.Acpi.Aml;
using static Qkvm.Core.Acpi.AmlResource;

namespace Qkvm.Machines.Pc;

/// <summary>What ACPI is told of the i440FX's PCI bus: the windows that the host bridge forwards, and how the PIIX3
/// routes interrupts.</summary>
static class PcAcpi
{
    const uint PciHoleEnd = 0xFEBF_FFFF;
    const int Sci = 9;

    public static Aml[] HostBridge(PcMemory memory, PciBus bus)
    {
        var others = new PciWindows(bus.Expanders.Select(expander => expander.Root));
        return
        [
            Name("_HID", EisaId("PNP0A03")),
            Name("_ADR", 0),
            Name("_UID", 0),
            Name("_CRS", Template(
            [
                ExpanderTables.FirstBuses(bus),
                Io(0x0CF8, 8),
                IoWindow(0x0000, 0x0CF7),
                .. others.RestOfPorts(0x0D00, 0xFFFF),
                MemoryWindow32(0xA0000, 0xBFFFF, cacheable: true),
                .. others.Rest(memory.Below, PciHoleEnd),
                .. others.Rest(memory.PciHole64, memory.PciHole64 + memory.PciHole64Size - 1),
            ])),
            Name("_PRT", Routing(sciSlot: 1)),
        ];
    }

    public static Aml[] IsaBridge() =>
    [
        Name("_ADR", 0x0001_0000),
        OperationRegion("P40C", AmlRegionSpace.PciConfig, 0x60, 4),
        Field("P40C", AmlAccess.Byte, ("PRQ0", 8), ("PRQ1", 8), ("PRQ2", 8), ("PRQ3", 8)),
    ];

    /// <summary>PIRQ A to D, and the SCI's; the root buses that they are for beside the first.</summary>
    public static Aml[] Links(PciBus bus) =>
    [
        PciHotPlugTables.Resources("GPE0", "GPE0 resources", (ushort)Piix4Pm.GpePort, Piix4Pm.GpeLength),
        PciLinks.Fixed("LNKS", 4, Sci),
        .. PciLinks.Routed([.. Enumerable.Range(0, Piix3.Inputs).Select(input => $"\\_SB.PCI0.ISA.PRQ{input}")]),
        .. ExpanderTables.Terms(bus, Name("_PRT", Routing()), areExpress: false),
    ];

    /// <summary>Each slot's pins, rotated by the slot; in one, pin A may be the power management function's, on the
    /// SCI.</summary>
    static Aml Routing(int? sciSlot = null) => PciLinks.Routing((slot, pin) =>
        slot == sciSlot && pin == 0 ? "LNKS" : $"LNK{PciLinks.Letter((slot + pin + 3) & 3)}");
}
