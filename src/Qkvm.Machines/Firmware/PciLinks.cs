using Qkvm.Core.Acpi;
using static Qkvm.Core.Acpi.Aml;
using static Qkvm.Core.Acpi.AmlResource;

namespace Qkvm.Machines.Firmware;

/// <summary>PCI interrupt links of \_SB, and which of them the pins of a bus's slots lead to. Spec: ACPI 6.3, section
/// 6.2.13 "_PRT"; the registers are Intel's route control registers, 82371SB (PIIX3), order 290550, section
/// 2.2.10.</summary>
static class PciLinks
{
    const int NotPresent = 0x09, Present = 0x0B;                   // _STA
    const int Disabled = 0x80, RouteMask = 0x0F;                   // of a route control register
    const int Pins = 4, Slots = 32;
    const int InterruptField = 5;                                  // where a template of one interrupt has its number
    const string HardwareId = "PNP0C0F";
    static readonly int[] Irqs = [5, 10, 11];

    /// <summary>PIRQ A and so on as LNKA and so on, over route control registers.</summary>
    /// <param name="registers">Their paths.</param>
    public static Aml[] Routed(params IReadOnlyList<string> registers)
    {
        var terms = new List<Aml>
        {
            Method("IQST", 1,
                If(And(Disabled, Arg0), Return(NotPresent)),
                Return(Present)),
            Method("IQCR", 1,
                Name("PRR0", Template(PciInterrupts(0))),
                CreateDwordField(Ref("PRR0"), InterruptField, "PRRI"),
                Store(And(Arg0, RouteMask), Ref("PRRI")),
                Return(Ref("PRR0"))),
        };
        for (int i = 0; i < registers.Count; i++)
        {
            Aml register = Ref(registers[i]);
            terms.Add(Device($"LNK{Letter(i)}",
                Name("_HID", EisaId(HardwareId)),
                Name("_UID", i),
                Name("_PRS", Template(PciInterrupts(Irqs))),
                Method("_STA", 0, Return(Call("IQST", register))),
                Method("_DIS", 0, Or(register, Disabled, register)),
                Method("_CRS", 0, Return(Call("IQCR", register))),
                Method("_SRS", 1,
                    CreateDwordField(Arg0, InterruptField, "PRRI"),
                    Store(Ref("PRRI"), register))));
        }
        return [.. terms];
    }

    /// <summary>A link that stays where it is.</summary>
    public static Aml Fixed(string name, int number, int gsi)
    {
        Aml wire = Template(PciInterrupts(gsi));
        return Device(name,
            Name("_HID", EisaId(HardwareId)),
            Name("_UID", number),
            Name("_PRS", wire),
            Name("_CRS", wire),
            Name("_STA", Present),
            Method("_DIS", 0),
            Method("_SRS", 1));
    }

    /// <summary>The value of _PRT.</summary>
    /// <param name="link">(slot, pin from 0) to the name of a link.</param>
    public static Aml Routing(Func<int, int, string> link)
    {
        var entries = new Aml[Slots * Pins];
        for (int i = 0; i < entries.Length; i++)
        {
            int slot = i / Pins, pin = i % Pins;
            entries[i] = Package(Integer((ulong)slot << 16 | 0xFFFF), pin, Ref($"\\_SB.{link(slot, pin)}"), 0);
        }
        return Package(entries);
    }

    public static char Letter(int input) => (char)('A' + input);
}
