using Qkvm.Machines.Q35;

namespace Qkvm.Doctor;

/// <summary>What other packages bring. SeaBIOS is in the executable.</summary>
static class ProgramChecks
{
    public static Finding Uefi(HostView host)
    {
        string[] places = [.. UefiFirmware.Directories.Select(host.At)];
        return UefiFirmware.Find(Q35Machine.Versions[0].Name, places) is { } image
            ? Finding.Good($"-machine q35,firmware=uefi takes {image.Code}")
            : Finding.Fair("no firmware for UEFI; guests start by BIOS", "sudo apt-get install ovmf");
    }

    public static Finding Tpm(HostView host) => Program(host, "a TPM for the guest", "swtpm", "swtpm");

    public static Finding SharedFolders(HostView host) => Program(host, "-virtfs shares folders without help; faster "
        + "ones, by virtiofs", "virtiofsd", "virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd");

    public static Finding NetworkBoot(HostView host) => Program(host, "starting by network", "ipxe-qemu",
        "/usr/lib/ipxe/qemu/efi-virtio.rom", "/usr/share/ipxe/qemu/efi-virtio.rom", "/usr/share/qemu/efi-virtio.rom");

    static Finding Program(HostView host, string what, string package, params ReadOnlySpan<string> names) =>
        host.Find(names) is { } path ? Finding.Good($"{what}: {path}")
            : Finding.Fair($"{what}: not there", $"sudo apt-get install {package}");
}
