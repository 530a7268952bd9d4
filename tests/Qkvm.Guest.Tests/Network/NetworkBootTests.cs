namespace Qkvm.Guest.Tests.Network;

/// <summary>PXE from the user network: the card's ROM asks DHCP, and takes a script, a kernel and an initrd by
/// TFTP.</summary>
public sealed class NetworkBootTests
{
    [PxeTheory]
    [InlineData("virtio-net-pci")]
    [InlineData("e1000")]
    public void Linux_boots_by_a_script_of_iPXE(string card)
    {
        using var files = new ScratchDirectory();
        File.Copy(Surroundings.Kernel, files["vmlinuz"]);
        File.Copy(Surroundings.Initrd, files["initrd"]);
        files.Write("boot.ipxe", ("#!ipxe\nkernel vmlinuz console=ttyS0 quiet panic=-1 tiny=poweroff initrd=initrd\n"
            + "initrd initrd\nboot\n").Select(c => (byte)c).ToArray());
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-boot", "n", "-nic",
            $"user,model={card},tftp={Path.GetDirectoryName(files["vmlinuz"])},bootfile=boot.ipxe");
        guest.Expect("TINY READY");
        Assert.Equal(0, guest.WaitExit());
    }
}

/// <summary>Needs the tiny Linux guest and the cards' boot ROMs.</summary>
sealed class PxeTheoryAttribute : TheoryAttribute
{
    const string Rom = "/usr/lib/ipxe/qemu/efi-virtio.rom";

    public PxeTheoryAttribute() => Skip = Surroundings.WithoutTiny()
        ?? (File.Exists(Rom) ? null : $"needs {Rom} (Debian: ipxe-qemu)");
}
