using Qkvm.Core.Acpi;
using Qkvm.Hw.Pci;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>Memory that comes and goes: a container with a device for each slot, over the hot-plug registers, and the
/// methods of event 3. Spec: ACPI 6.3, sections 9.11 "Memory Devices", 6.3.3 "_EJx" and 6.3.5 "_OST".</summary>
static class MemoryHotPlugTables
{
    const int ContainerPresent = 0x0B;                             // _STA
    const ushort Port = (ushort)AcpiMemoryHotPlug.Port;

    // Offsets in a 64-bit address space descriptor: ACPI 6.3, table 6-235
    const int First = 14, Last = 22, Length = 38;

    static readonly SlotMethods s_slots = new('M', "MLCK", "MSEL", "MES", "MINS", "MRMV", "MEJ");

    public static Aml[] Terms(int slots) =>
    [
        PciHotPlugTables.Resources("MHPD", "Memory hotplug resources", Port, (byte)AcpiMemoryHotPlug.Size),
        Device("\\_SB.MHPC",
        [
            Name("_HID", EisaId("PNP0A06")),
            Name("_UID", Text("DIMM devices")),
            Name("_STA", ContainerPresent),
            .. Registers(slots),
            .. Enumerable.Range(0, slots).Select(Slot),
            s_slots.Notifications(slots, NameOf),
        ]),
        Method("\\_GPE._E03", 0, Call("\\_SB.MHPC.MSCN")),
    ];

    static string NameOf(int slot) => $"MP{slot:X2}";

    static Aml[] Registers(int slots) =>
    [
        OperationRegion("HPMR", AmlRegionSpace.SystemIo, Port, (int)AcpiMemoryHotPlug.Size),
        Field("HPMR", AmlAccess.Dword, ("MRBL", 32), ("MRBH", 32), ("MRLL", 32), ("MRLH", 32), ("MPX", 32)),
        Field("HPMR", AmlAccess.Byte | AmlAccess.ZeroRest, (null, 0x14 * 8), ("MES", 1), ("MINS", 1), ("MRMV", 1),
            ("MEJ", 1)),
        Field("HPMR", AmlAccess.Dword, ("MSEL", 32), ("MOEV", 32), ("MOSC", 32)),
        Mutex("MLCK"),
        SerializedMethod("MSCN", 0,
            Acquire("MLCK"),
            Store(0, Local0),
            While(Less(Local0, slots),
                [Store(Local0, Ref("MSEL")), .. s_slots.PassOn(Local0), Increment(Local0)]),
            Release("MLCK")),
        s_slots.Status("MRST"),
        s_slots.Value("MPXM", Store(Ref("MPX"), Local0)),
        s_slots.About("MOST", 3, Store(Arg1, Ref("MOEV")), Store(Arg2, Ref("MOSC"))),
        s_slots.Ejection("MEJT"),
        Resources(),
    ];

    /// <summary>MCRS: the range of a slot. The table's integers have 32 bits, and so the last address is reckoned in
    /// halves.</summary>
    static Aml Resources() => SerializedMethod("MCRS", 1,
        Acquire("MLCK"),
        Store(Arg0, Ref("MSEL")),
        Name("MR64", AmlResource.Template(AmlResource.MemoryWindow64(0, 0))),
        CreateDwordField(Ref("MR64"), First, "MINL"),
        CreateDwordField(Ref("MR64"), First + 4, "MINH"),
        CreateDwordField(Ref("MR64"), Last, "MAXL"),
        CreateDwordField(Ref("MR64"), Last + 4, "MAXH"),
        CreateDwordField(Ref("MR64"), Length, "LENL"),
        CreateDwordField(Ref("MR64"), Length + 4, "LENH"),
        Store(Ref("MRBL"), Ref("MINL")),
        Store(Ref("MRBH"), Ref("MINH")),
        Store(Ref("MRLL"), Ref("LENL")),
        Store(Ref("MRLH"), Ref("LENH")),
        Release("MLCK"),
        Add(Ref("MINL"), Ref("LENL"), Ref("MAXL")),
        Add(Ref("MINH"), Ref("LENH"), Ref("MAXH")),
        If(Less(Ref("MAXL"), Ref("MINL")), Add(Ref("MAXH"), 1, Ref("MAXH"))),
        If(Equal(Ref("MAXL"), 0), Subtract(Ref("MAXH"), 1, Ref("MAXH"))),
        Subtract(Ref("MAXL"), 1, Ref("MAXL")),
        Return(Ref("MR64")));

    static Aml Slot(int slot) => Device(NameOf(slot),
        Name("_HID", EisaId("PNP0C80")),
        Name("_UID", slot),
        Method("_CRS", 0, Return(Call("MCRS", slot))),
        Method("_STA", 0, Return(Call("MRST", slot))),
        Method("_PXM", 0, Return(Call("MPXM", slot))),
        Method("_OST", 3, Call("MOST", slot, Arg0, Arg1)),
        Method("_EJ0", 1, Call("MEJT", slot)));
}
