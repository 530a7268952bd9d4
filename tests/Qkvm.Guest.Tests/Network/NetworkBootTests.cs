using Qkvm.Testing;

namespace Qkvm.Guest.Tests.Network;

/// <summary>PXE from the user network: the card's ROM asks DHCP, and takes a script, a kernel and an initrd by
/// TFTP.</summary>
public sealed class NetworkBootTests
{
    [PxeFact]
    public void Linux_boots_by_a_script_of_iPXE()
    {
        using var files = new ScratchDirectory();
        File.Copy(Surroundings.CardsKernel, files["vmlinuz"]);
        File.Copy(Surroundings.CardsSmallInitrd, files["initrd"]);
        files.Write("boot.ipxe", ("#!ipxe\nkernel vmlinuz console=ttyS0 quiet panic=-1 tiny=poweroff initrd=initrd\n"
            + "initrd initrd\nboot\n").Select(c => (byte)c).ToArray());
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-boot", "n", "-nic",
            $"user,model=virtio-net-pci,tftp={Path.GetDirectoryName(files["vmlinuz"])},bootfile=boot.ipxe");
        guest.Expect("TINY READY");
        Assert.Equal(0, guest.WaitExit());
    }
}

/// <summary>Needs the tiny Linux guest and the cards' boot ROMs.</summary>
sealed class PxeFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutNetworks
    ?? (File.Exists(Rom) ? null : $"needs {Rom} (Debian: ipxe-qemu)"))
{
    const string Rom = "/usr/lib/ipxe/qemu/efi-virtio.rom";
}
