using Qkvm.Core.Acpi;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>What every host bridge to PCI Express tells ACPI of itself. PCI Firmware 3.3, chapter 4.</summary>
static class PcieTables
{
    const int NativeHotPlug = 0x01, PowerEvents = 0x04, ErrorReporting = 0x08, CapabilityStructures = 0x10;

    /// <summary>The identifiers, section 4.9.1.</summary>
    public static Aml[] Identity =>
    [
        Name("_HID", EisaId("PNP0A08")),
        Name("_CID", EisaId("PNP0A03")),
    ];

    /// <summary>_OSC, section 4.5. The operating system gets power management events, error reporting and the
    /// capability structures, and the ports' own hot-plug where ACPI has none for them; not the standard hot-plug
    /// controller.</summary>
    public static Aml Control(bool hasNativeHotPlug)
    {
        int granted = PowerEvents | ErrorReporting | CapabilityStructures | (hasNativeHotPlug ? NativeHotPlug : 0);
        const int UnrecognizedUuid = 0x04, UnrecognizedRevision = 0x08, Masked = 0x10;
        return Method("_OSC", 4,
            CreateDwordField(Arg3, 0, "CDW1"),
            If(Equal(Arg0, Uuid("33DB4D5B-1FF7-401C-9657-7441C03DD766")),
                CreateDwordField(Arg3, 4, "CDW2"),
                CreateDwordField(Arg3, 8, "CDW3"),
                And(Ref("CDW3"), granted, Local0),
                If(Not(Equal(Arg1, 1)), Or(Ref("CDW1"), UnrecognizedRevision, Ref("CDW1"))),
                If(Not(Equal(Ref("CDW3"), Local0)), Or(Ref("CDW1"), Masked, Ref("CDW1"))),
                Store(Local0, Ref("CDW3"))),
            Else(Or(Ref("CDW1"), UnrecognizedUuid, Ref("CDW1"))),
            Return(Arg3));
    }
}
