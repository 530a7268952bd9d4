using Qkvm.Core.Acpi;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>What ACPI tells of slots whose cards come and go: a device for each with its number and how to let go of
/// it, and the methods of event 1, which pass on what the registers say. Spec: ACPI 6.3, sections 5.6.4, 6.1.11 "_SUN"
/// and 6.3.3 "_EJx"; _DSM: PCI Firmware 3.3, section 4.6.7.</summary>
/// <param name="port">Of the registers.</param>
/// <param name="root">The bus of \_SB.PCI0.</param>
/// <param name="isHotPluggable">Whether what is in a slot may go.</param>
sealed class PciHotPlugTables(AcpiPciHotPlug registers, ushort port, PciBus root, Predicate<PciDevice> isHotPluggable)
{
    const string LabelingId = "E5C937D0-3553-4D7A-9117-EA4D19C3434D";
    const int LabelFunction = 7, LabelRevision = 2;
    const int Look = 1, LetGo = 3;                                 // of Notify

    public Aml[] Terms() =>
    [
        Resources("PHPR", "PCI Hotplug resources", port, (byte)AcpiPciHotPlug.Size),
        Scope("\\_SB.PCI0", [.. Registers(), .. Bus(root)]),
        Scope("\\_GPE", Method("_E01", 0,
            Acquire("\\_SB.PCI0.BLCK"),
            Call("\\_SB.PCI0.PCNT"),
            Release("\\_SB.PCI0.BLCK"))),
    ];

    /// <summary>Ports that no bridge may give away, below \_SB.PCI0.</summary>
    public static Aml Resources(string name, string number, ushort port, byte length)
    {
        const int Hidden = 0x0B;                                   // _STA
        return Device($"\\_SB.PCI0.{name}",
            Name("_HID", EisaId("PNP0A06")),
            Name("_UID", Text(number)),
            Name("_STA", Hidden),
            Name("_CRS", AmlResource.Template(AmlResource.Io(port, length))));
    }

    Aml[] Registers() =>
    [
        OperationRegion("PCST", AmlRegionSpace.SystemIo, port, (int)AcpiPciHotPlug.Size),
        Field("PCST", AmlAccess.Dword | AmlAccess.ZeroRest, ("PCIU", 32), ("PCID", 32), ("B0EJ", 32), (null, 32),
            ("BNUM", 32), ("PIDX", 32)),
        Mutex("BLCK"),
        Method("PCEJ", 2,
            Acquire("BLCK"),
            Store(Arg0, Ref("BNUM")),
            Store(ShiftLeft(1, Arg1), Ref("B0EJ")),
            Release("BLCK"),
            Return(0)),
        Method("AIDX", 2,
            Acquire("BLCK"),
            Store(Arg0, Ref("BNUM")),
            Store(ShiftLeft(1, Arg1), Ref("PIDX")),
            Store(Ref("PIDX"), Local0),
            Release("BLCK"),
            Return(Local0)),
        Label(),
    ];

    /// <summary>PDSM: identifier, revision, function, bus and slot.</summary>
    static Aml Label() => SerializedMethod("PDSM", 5,
        Store(Buffer([0]), Local0),
        If(Not(Equal(Arg0, Uuid(LabelingId))), Return(Local0)),
        Store(Call("AIDX", Arg3, Arg4), Local1),
        If(Equal(Arg2, 0),
            If(BothOf(Local1, Not(Less(Arg1, LabelRevision))),
                Store(1 | 1 << LabelFunction, Index(Local0, 0))),
            Return(Local0)),
        If(Equal(Arg2, LabelFunction),
            Store(Package(0, Text("")), Local2),
            Store(Local1, Index(Local2, 0)),
            Return(Local2)),
        Return(Local0));

    /// <summary>The slots of a bus and the bridges on it; events of both.</summary>
    List<Aml> Bus(PciBus bus)
    {
        List<Aml> terms = [], events = [], passedOn = [];
        int? number = registers.NumberOf(bus);
        if (number is { } select)
        {
            terms.Add(Name("BSEL", select));
            passedOn = [Store(select, Ref("BNUM")), Call("DVNT", Ref("PCIU"), Look), Call("DVNT", Ref("PCID"), LetGo)];
        }
        for (int devFn = 0; devFn < bus.SlotCount << 3; devFn++)
        {
            string name = $"S{devFn:X2}";
            if (bus[devFn] is PciBridge bridge && HasSlots(bridge.Secondary))
            {
                terms.Add(Device(name, [Address(devFn), .. Bus(bridge.Secondary)]));
                passedOn.Add(Call($"^{name}.PCNT"));
            }
            else if (number != null && (devFn & 7) == 0 && (bus[devFn] is not { } device || isHotPluggable(device)))
            {
                terms.Add(Device(name, Slot(devFn)));
                events.Add(If(And(Arg0, Integer(1u << (devFn >> 3))), Notify(Ref(name), Arg1)));
            }
        }
        if (number != null) terms.Add(Method("DVNT", 2, [.. events]));
        terms.Add(Method("PCNT", 0, [.. passedOn]));
        return terms;
    }

    bool HasSlots(PciBus bus) => registers.NumberOf(bus) != null
        || bus.Devices.Any(device => device is PciBridge bridge && HasSlots(bridge.Secondary));

    static Aml[] Slot(int devFn) =>
    [
        Address(devFn),
        Name("_SUN", devFn >> 3),
        Method("_EJ0", 1, Call("PCEJ", Ref("BSEL"), Ref("_SUN"))),
        SerializedMethod("_DSM", 4, Return(Call("PDSM", Arg0, Arg1, Arg2, Ref("BSEL"), Ref("_SUN")))),
    ];

    static Aml Address(int devFn) => Name("_ADR", Integer((ulong)(devFn >> 3) << 16 | (uint)(devFn & 7)));
}
