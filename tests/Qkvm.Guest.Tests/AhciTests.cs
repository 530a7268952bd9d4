using System.Security.Cryptography;
using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests;

/// <summary>Linux's AHCI driver on our controller: what it reads is what lies on the host, and what it writes
/// arrives.</summary>
public sealed class AhciTests
{
    const int Megabyte = 1 << 20, DiskMegabytes = 12;

    [CardsTheory]
    [InlineData("", 32)]                                           // queued commands, MSI
    [InlineData("libata.force=noncq pci=nomsi", 1)]                // one after another, INTx
    [InlineData("libata.dma=0", 32)]                               // by PIO, whatever the depth says
    public void Disk_and_disc_are_read_and_the_disk_is_written(string how, int depth)
    {
        using var directory = new ScratchDirectory();
        string disk = directory.Write("disk", RandomNumberGenerator.GetBytes(DiskMegabytes * Megabyte));
        string disc = directory.Write("disc", RandomNumberGenerator.GetBytes(3 * Megabyte));
        string onDisk = SumOf(File.ReadAllBytes(disk)), onDisc = SumOf(File.ReadAllBytes(disc));
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-m", "256M", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel,
            "-initrd", Surroundings.CardsSmallInitrd, "-append", $"console=ttyS0 quiet panic=-1 {how}",
            "-device", "ahci,id=a", "-drive", $"if=none,id=disk,format=raw,file={disk}",
            "-device", "ide-hd,drive=disk,bus=a.0",
            "-drive", $"if=none,id=disc,format=raw,readonly=on,file={disc}", "-device", "ide-cd,drive=disc,bus=a.5");
        guest.Expect("TINY READY");
        guest.Send("modprobe -a sd_mod sr_mod; while [ ! -e /dev/sda -o ! -e /dev/sr0 ]; do sleep 0.1; done\n");
        guest.Send("echo DEPTH $(cat /sys/block/sda/device/queue_depth)\n");
        Assert.Equal($"{depth}", guest.Value("DEPTH", @"\d+"));
        guest.Send("echo DISK $(md5sum </dev/sda)\n");
        Assert.Equal(onDisk, guest.Value("DISK", "[0-9a-f]{32}"));
        guest.Send("echo DISC $(md5sum </dev/sr0)\n");
        Assert.Equal(onDisc, guest.Value("DISC", "[0-9a-f]{32}"));
        guest.Send("dd if=/dev/sr0 of=/dev/sda bs=1M seek=5 conv=fsync && echo WRITTEN $((1 + 1)); poweroff -f\n");
        Assert.Equal("2", guest.Value("WRITTEN", @"\d"));
        Assert.Equal(0, guest.WaitExit());
        byte[] written = File.ReadAllBytes(disk);
        Assert.Equal(DiskMegabytes * Megabyte, written.Length);
        Assert.Equal(onDisc, SumOf(written.AsSpan(5 * Megabyte, 3 * Megabyte)));
    }

    static string SumOf(ReadOnlySpan<byte> data) => Convert.ToHexStringLower(MD5.HashData(data));
}
