using Qkvm.Core.Acpi;
using Qkvm.Hw.Pci;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>The differentiated system description table: processors, all devices of the tree that describe themselves,
/// soft off.</summary>
static class Dsdt
{
    const int Present = 0x0F;                                      // _STA

    public static byte[] Build(AcpiPlatform platform) => new AcpiTable("DSDT", 1).Bytes(Join(
        Scope("\\_SB", platform.AreCpusDescribed ? [] : Processors(platform)),
        Scope("\\_SB", AcpiDescription.Of(platform.Tree)),
        Scope("\\_SB", platform.Terms),
        Scope("\\", [.. Sleep(platform)]),
        Name("\\_S5", platform.Reduced == null ? Package(0, 0, 0, 0)
            : Package(GenericEventDevice.SoftOff, 0, 0, 0)))).ToArray();

    /// <summary>The types that PM1_CNT takes: ACPI 6.3, section 7.4.2.</summary>
    static IEnumerable<Aml> Sleep(AcpiPlatform platform)
    {
        if (platform.SleepStates.ToRam) yield return Name("\\_S3", Package(1, 1, 0, 0));
        int disk = platform.SleepStates.S4Type;
        if (platform.SleepStates.ToDisk) yield return Name("\\_S4", Package(disk, disk, 0, 0));
    }

    static Aml[] Processors(AcpiPlatform platform) =>
    [
        .. Enumerable.Range(0, platform.ApicIds.Count).Where(cpu => platform.IsCpuPresent(cpu)).Select(cpu =>
            Device($"C{cpu:X3}",
                Name("_HID", Text("ACPI0007")),
                Name("_UID", cpu),
                Name("_STA", Present))),
    ];
}
