using static Qkvm.Machines.Firmware.Aml;
using static Qkvm.Machines.Firmware.AmlResource;

namespace Qkvm.Machines.Firmware;

/// <summary>The differentiated system description table of the i440FX PC: processors, PCI host bridge with its windows
/// and interrupt routing, the ISA devices behind the PIIX3, soft off.</summary>
static class Dsdt
{
    public const ulong PciHole64Size = 2UL << 30;
    const uint PciHoleEnd = 0xFEBF_FFFF;
    const int Present = 0x0F, NotPresent = 0x09;                   // _STA
    static readonly int[] LinkIrqs = [5, 10, 11];

    public static byte[] Build(AcpiPlatform platform) => new AcpiTable("DSDT", 1).Bytes(Join(
        Scope("\\_SB", Processors(platform)),
        Scope("\\_SB",
            Device("PCI0",
                Name("_HID", EisaId("PNP0A03")),
                Name("_ADR", 0),
                Name("_UID", 0),
                Name("_CRS", HostWindows(platform)),
                Name("_PRT", Routing()),
                IsaBridge(platform)),
            Device("LNKS",
                Name("_HID", EisaId("PNP0C0F")),
                Name("_UID", 4),
                Name("_PRS", Template(PciInterrupts(9))),
                Name("_CRS", Template(PciInterrupts(9))),
                Name("_STA", 0x0B),
                Method("_DIS", 0),
                Method("_SRS", 1))),
        Scope("\\_SB", [.. LinkTerms(), .. HpetTerms(platform)]),
        Name("\\_S5", Package(0, 0, 0, 0)))).ToArray();

    static Aml[] Processors(AcpiPlatform platform)
    {
        var terms = new Aml[platform.PresentCpus];
        for (int i = 0; i < terms.Length; i++)
            terms[i] = Device($"C{i:X3}",
                Name("_HID", Text("ACPI0007")),
                Name("_UID", i),
                Name("_STA", Present));
        return terms;
    }

    static Aml HostWindows(AcpiPlatform platform) => Template(
        BusNumbers(0, 0xFF),
        Io(0x0CF8, 8),
        IoWindow(0x0000, 0x0CF7),
        IoWindow(0x0D00, 0xFFFF),
        MemoryWindow32(0xA0000, 0xBFFFF, cacheable: true),
        MemoryWindow32(platform.PciHole, PciHoleEnd),
        MemoryWindow64(platform.PciHole64, platform.PciHole64 + PciHole64Size - 1));

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

    /// <summary>PIRQ A to D as link devices over the bridge's route control registers.</summary>
    static Aml[] LinkTerms()
    {
        const int Disabled = 0x80, RouteMask = 0x0F;
        var terms = new List<Aml>
        {
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

    static Aml IsaBridge(AcpiPlatform platform)
    {
        var terms = new List<Aml>
        {
            Name("_ADR", 0x0001_0000),
            OperationRegion("P40C", AmlRegionSpace.PciConfig, 0x60, 4),
            Field("P40C", AmlAccess.Byte, ("PRQ0", 8), ("PRQ1", 8), ("PRQ2", 8), ("PRQ3", 8)),
            IsaDevice("KBD", "PNP0303", Io(0x60, 1), Io(0x64, 1), Irq(1)),
            IsaDevice("MOU", "PNP0F13", Irq(12)),
            IsaDevice("RTC", "PNP0B00", Io(0x70, 8), Irq(8)),
        };
        for (int i = 0; i < platform.Serials.Count; i++)
            terms.Add(Numbered($"COM{i + 1}", "PNP0501", i + 1, Io(platform.Serials[i].Port, 8),
                Irq(platform.Serials[i].Irq)));
        for (int i = 0; i < platform.Parallels.Count; i++)
            terms.Add(Numbered($"LPT{i + 1}", "PNP0400", i + 1, Io(platform.Parallels[i].Port, 8),
                Irq(platform.Parallels[i].Irq)));
        if (platform.PanicPort is { } port) terms.Add(PanicDevice(port));
        return Device("ISA", [.. terms]);
    }

    static Aml IsaDevice(string name, string id, params ReadOnlySpan<AmlResource> resources) =>
        Device(name, Name("_HID", EisaId(id)), Name("_STA", Present), Name("_CRS", Template(resources)));

    static Aml Numbered(string name, string id, int number, params ReadOnlySpan<AmlResource> resources) =>
        Device(name, Name("_HID", EisaId(id)), Name("_UID", number), Name("_STA", Present),
            Name("_CRS", Template(resources)));

    /// <summary>pvpanic: the guest reads which events there are and writes the one that happened.</summary>
    static Aml PanicDevice(ushort port) => Device("PEVT",
        Name("_HID", Text("QEMU0001")),
        Name("_CRS", Template(Io(port, 1))),
        OperationRegion("PEOR", AmlRegionSpace.SystemIo, port, 1),
        Field("PEOR", AmlAccess.Byte, ("PEPT", 8)),
        Name("_STA", Present),
        Method("RDPT", 0, Store(Ref("PEPT"), Local0), Return(Local0)),
        Method("WRPT", 1, Store(Arg0, Ref("PEPT"))));

    static Aml[] HpetTerms(AcpiPlatform platform) => !platform.Hpet ? [] :
    [
        Device("HPET",
            Name("_HID", EisaId("PNP0103")),
            Name("_UID", 0),
            Name("_STA", Present),
            Name("_CRS", Template(Memory32((uint)AcpiTables.HpetAddress, 0x400, writable: false)))),
    ];
}
