using Qkvm.Core.Acpi;
using Qkvm.Core.Machine;
using Qkvm.Hw.Pci;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>Processors that come and go: a container with a device for each that there can be, over the hot-plug
/// registers, and the methods of event 2. Spec: ACPI 6.3, sections 8.4, 6.2.10 "_MAT", 6.2.15 "_PXM", 6.3.3 "_EJx" and
/// 6.3.5 "_OST".</summary>
static class CpuHotPlugTables
{
    const int FindPending = 0, OstEvent = 1, OstStatus = 2;        // of the command register

    static readonly SlotMethods s_slots = new('C', "CPLK", "CSEL", "CPEN", "CINS", "CRMV", "CEJ0");

    public static Aml[] Terms(IReadOnlyList<uint> apicIds, ushort port, NumaConfig numa) =>
    [
        PciHotPlugTables.Resources("PRES", "CPU Hotplug resources", port, (byte)AcpiCpuHotPlug.Size),
        Device("\\_SB.CPUS",
        [
            Name("_HID", Text("ACPI0010")),
            Name("_CID", EisaId("PNP0A05")),
            .. Registers(port),
            .. apicIds.Select((id, cpu) => Processor(cpu, id, numa.NodeOf(cpu))),
            s_slots.Notifications(apicIds.Count, NameOf),
        ]),
        Method("\\_GPE._E02", 0, Call("\\_SB.CPUS.CSCN")),
    ];

    static string NameOf(int cpu) => $"C{cpu:X3}";

    static Aml[] Registers(ushort port) =>
    [
        OperationRegion("PRST", AmlRegionSpace.SystemIo, port, (int)AcpiCpuHotPlug.Size),
        Field("PRST", AmlAccess.Byte | AmlAccess.ZeroRest, (null, 32), ("CPEN", 1), ("CINS", 1), ("CRMV", 1),
            ("CEJ0", 1), (null, 4), ("CCMD", 8)),
        Field("PRST", AmlAccess.Dword, ("CSEL", 32), (null, 32), ("CDAT", 32)),
        Mutex("CPLK"),
        s_slots.Status("CSTA"),
        s_slots.Ejection("CEJT"),
        s_slots.About("COST", 3,
            Store(OstEvent, Ref("CCMD")),
            Store(Arg1, Ref("CDAT")),
            Store(OstStatus, Ref("CCMD")),
            Store(Arg2, Ref("CDAT"))),
        // one after the other with news, until none has any
        SerializedMethod("CSCN", 0,
            Acquire("CPLK"),
            Store(0, Ref("CSEL")),
            Store(1, Local0),
            While(Local0, [Store(FindPending, Ref("CCMD")), .. s_slots.PassOn(Ref("CDAT"), Store(0, Local0))]),
            Release("CPLK")),
    ];

    static Aml Processor(int cpu, uint apicId, int? node)
    {
        Aml[] proximity = node is { } near ? [Name("_PXM", near)] : [];
        Aml[] leave = cpu == 0 ? [] : [Method("_EJ0", 1, Call("CEJT", cpu))];
        return Device(NameOf(cpu),
        [
            Name("_HID", Text("ACPI0007")),
            Name("_UID", cpu),
            SerializedMethod("_STA", 0, Return(Call("CSTA", cpu))),
            Name("_MAT", Buffer(AcpiTables.LocalApic(cpu, apicId, isEnabled: true))),
            .. leave,
            SerializedMethod("_OST", 3, Call("COST", cpu, Arg0, Arg1)),
            .. proximity,
        ]);
    }
}
