using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>The machine microvm with Linux, which starts without firmware.</summary>
public sealed class MicrovmTests
{
    static GuestProcess Start(string machine, string append, params string[] options) => GuestProcess.Start(
        ["-accel", "tcg", "-machine", machine, "-m", "256M", "-nodefaults", "-display", "none", "-serial", "stdio",
        "-no-reboot", "-kernel", Surroundings.Kernel, "-initrd", Surroundings.Initrd, "-append",
        $"console=ttyS0 quiet {append}", .. options]);

    [TinyTheory]
    [InlineData("on")]
    [InlineData("off")]
    public void Linux_finds_its_disk_network_and_entropy_and_powers_off(string legacy)
    {
        using var directory = new ScratchDirectory();
        string disk = directory.Write("disk", RandomNumberGenerator.GetBytes(4 << 20));
        string sum = Convert.ToHexStringLower(MD5.HashData(File.ReadAllBytes(disk)));
        using GuestProcess guest = Start("microvm", "", "-global", $"virtio-mmio.force-legacy={legacy}",
            "-drive", $"if=none,id=d,file={disk},format=raw", "-device", "virtio-blk-device,drive=d",
            "-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n", "-device", "virtio-rng-device",
            "-device", "virtio-balloon-device");
        guest.Expect("TINY READY");
        guest.Send("echo DISK $(md5sum </dev/vda)\n");
        Assert.Equal(sum, guest.Value("DISK", "[0-9a-f]{32}"));
        guest.Send("echo written | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null; echo WROTE $((1 + 1))\n");
        Assert.Equal("2", guest.Value("WROTE", @"\d"));
        Assert.StartsWith("written\n", File.ReadAllText(disk), StringComparison.Ordinal);
        guest.Send("ifconfig eth0 10.0.2.15; ping -c 1 10.0.2.2 | sed -n 's/^\\([0-9]*\\) bytes from/PONG \\1/p'\n");
        Assert.Equal("64", guest.Value("PONG", @"\d+"));
        guest.Send("echo ENTROPY $(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c)\n");
        Assert.Equal("16", guest.Value("ENTROPY", @"\d+"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    [TinyTheory]
    [InlineData("microvm,ioapic2=off,pic=off,pit=off,rtc=off")]
    [InlineData("microvm,acpi=off")]
    public void It_starts_without_what_can_be_left_out_and_restarts(string machine)
    {
        using GuestProcess guest = Start(machine, "tiny=reboot");
        guest.Expect("TINY READY");
        Assert.Equal(0, guest.WaitExit());
    }

    [TinyTheory]
    [InlineData("pcie=on")]
    public void Behind_PCI_Express_there_are_the_usual_cards(string option)
    {
        using GuestProcess guest = Start($"microvm,{option}", "", "-smp", "2", "-device", "virtio-rng-pci");
        guest.Expect("TINY READY cpus=2");
        guest.Send("echo CARD $(cat /sys/bus/pci/devices/0000:00:01.0/device) $(dd if=/dev/hwrng bs=16 count=1 "
            + "2>/dev/null | wc -c)\n");
        Assert.Equal("0x1005 16", guest.Value("CARD", "0x[0-9a-f]+ [0-9]+"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
