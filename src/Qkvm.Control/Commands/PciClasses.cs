namespace Qkvm.Control.Commands;

/// <summary>Names of PCI classes. PCI Code and ID Assignment Specification 1.11, section 1.</summary>
static class PciClasses
{
    static readonly (int Class, string Name)[] Known =
    [
        (0x0001, "VGA controller"), (0x0100, "SCSI controller"), (0x0101, "IDE controller"),
            (0x0102, "Floppy controller"), (0x0106, "SATA controller"),
        (0x0108, "NVMe controller"), (0x0180, "Storage controller"), (0x0200, "Ethernet controller"),
            (0x0280, "Network controller"),
        (0x0300, "VGA controller"), (0x0301, "XGA controller"), (0x0302, "3D controller"),
            (0x0380, "Display controller"), (0x0401, "Audio controller"),
        (0x0403, "Audio controller"), (0x0500, "RAM controller"), (0x0600, "Host bridge"), (0x0601, "ISA bridge"),
            (0x0604, "PCI bridge"),
        (0x0680, "Bridge"), (0x0780, "Communication controller"), (0x0C03, "USB controller"), (0x0C05, "SMBus"),
    ];

    public static string Describe(int code) => Array.Find(Known, k => k.Class == code).Name ?? $"Class {code:x4}";
}
