using Qkvm.Core.Acpi;
using static Qkvm.Core.Acpi.Aml;
using static Qkvm.Core.Acpi.AmlResource;

namespace Qkvm.Machines.Pc;

/// <summary>What ACPI is told of the i440FX's PCI bus: the windows that the host bridge forwards, and how the PIIX3
/// routes interrupts.</summary>
static class PcAcpi
{
    const uint PciHoleEnd = 0xFEBF_FFFF;
    const int NotPresent = 0x09;                                   // _STA
    static readonly int[] LinkIrqs = [5, 10, 11];

    public static Aml[] HostBridge(PcMemory memory) =>
    [
        Name("_HID", EisaId("PNP0A03")),
        Name("_ADR", 0),
        Name("_UID", 0),
        Name("_CRS", Template(
            BusNumbers(0, 0xFF),
            Io(0x0CF8, 8),
            IoWindow(0x0000, 0x0CF7),
            IoWindow(0x0D00, 0xFFFF),
            MemoryWindow32(0xA0000, 0xBFFFF, cacheable: true),
            MemoryWindow32((uint)memory.Below, PciHoleEnd),
            MemoryWindow64(memory.PciHole64, memory.PciHole64 + memory.PciHole64Size - 1))),
        Name("_PRT", Routing()),
    ];

    public static Aml[] IsaBridge() =>
    [
        Name("_ADR", 0x0001_0000),
        OperationRegion("P40C", AmlRegionSpace.PciConfig, 0x60, 4),
        Field("P40C", AmlAccess.Byte, ("PRQ0", 8), ("PRQ1", 8), ("PRQ2", 8), ("PRQ3", 8)),
    ];

    /// <summary>PIRQ A to D as link devices over the bridge's route control registers, and the SCI's.</summary>
    public static Aml[] Links()
    {
        const int Disabled = 0x80, RouteMask = 0x0F;
        var terms = new List<Aml>
        {
            Device("LNKS",
                Name("_HID", EisaId("PNP0C0F")),
                Name("_UID", 4),
                Name("_PRS", Template(PciInterrupts(9))),
                Name("_CRS", Template(PciInterrupts(9))),
                Name("_STA", 0x0B),
                Method("_DIS", 0),
                Method("_SRS", 1)),
            Method("IQST", 1,
                If(And(Disabled, Arg0), Return(NotPresent)),
                Return(0x0B)),
            Method("IQCR", 1,
                Name("PRR0", Template(PciInterrupts(0))),
                CreateDwordField(Ref("PRR0"), 5, "PRRI"),
                Store(And(Arg0, RouteMask), Ref("PRRI")),
                Return(Ref("PRR0"))),
        };
        for (int i = 0; i < 4; i++)
        {
            string register = $"\\_SB.PCI0.ISA.PRQ{i}";
            terms.Add(Device($"LNK{(char)('A' + i)}",
                Name("_HID", EisaId("PNP0C0F")),
                Name("_UID", i),
                Name("_PRS", Template(PciInterrupts(LinkIrqs))),
                Method("_STA", 0, Return(Call("IQST", Ref(register)))),
                Method("_DIS", 0, Or(Ref(register), Disabled, Ref(register))),
                Method("_CRS", 0, Return(Call("IQCR", Ref(register)))),
                Method("_SRS", 1,
                    CreateDwordField(Arg0, 5, "PRRI"),
                    Store(Ref("PRRI"), Ref(register)))));
        }
        return [.. terms];
    }

    /// <summary>Each slot's pins, rotated by the slot; slot 1 pin A is the power management function, on the
    /// SCI.</summary>
    static Aml Routing()
    {
        string[] links = ["LNKD", "LNKA", "LNKB", "LNKC"];
        var entries = new Aml[32 * 4];
        for (int i = 0; i < entries.Length; i++)
        {
            int slot = i / 4, pin = i % 4;
            string link = slot == 1 && pin == 0 ? "LNKS" : links[(slot + pin) & 3];
            entries[i] = Package(Integer((ulong)slot << 16 | 0xFFFF), pin, Ref($"\\_SB.{link}"), 0);
        }
        return Package(entries);
    }
}
