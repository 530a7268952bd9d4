using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>Linux's drivers of virtio-scsi and NVMe: what they read is what lies on the host, and what they write
/// arrives.</summary>
public sealed class ScsiTests : IDisposable
{
    const int Megabyte = 1 << 20;

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    GuestProcess Start(params string[] more) => GuestProcess.Start(["-accel", "tcg", "-m", "256M", "-nodefaults",
        "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.Kernel,
        "-initrd", Surroundings.Initrd, "-append", "console=ttyS0 quiet panic=-1",
        "-monitor", $"unix:{_files["monitor"]},server=on,wait=off", .. more]);

    string Disk(string name, int megabytes) =>
        _files.Write(name, RandomNumberGenerator.GetBytes(megabytes * Megabyte));

    static string SumOf(ReadOnlySpan<byte> data) => Convert.ToHexStringLower(MD5.HashData(data));

    [TinyFact]
    public void Disks_and_a_disc_on_virtio_scsi_come_go_and_change()
    {
        string disk = Disk("disk", 12), disc = Disk("disc", 3), other = Disk("other", 2), more = Disk("more", 1);
        string onDisk = SumOf(File.ReadAllBytes(disk)), onDisc = SumOf(File.ReadAllBytes(disc));
        using GuestProcess guest = Start("-device", "virtio-scsi-pci,id=scsi0",
            "-drive", $"if=none,id=disk,format=raw,file={disk}",
            "-device", "scsi-hd,drive=disk,bus=scsi0.0,channel=0,scsi-id=2,lun=1",
            "-drive", $"if=none,id=disc,format=raw,readonly=on,file={disc}", "-device", "scsi-cd,drive=disc,id=cd",
            "-drive", $"if=none,id=more,format=raw,file={more}");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(_files["monitor"]);
        guest.Send("modprobe -a sd_mod sr_mod; while [ ! -e /dev/sda -o ! -e /dev/sr0 ]; do sleep 0.1; done; "
            + "echo AT $(basename $(readlink /sys/block/sda/device)) $(basename $(readlink /sys/block/sr0/device))\n");
        Assert.Matches(@"\d+:0:2:1 \d+:0:0:0", guest.Value("AT", @"[\d:]+ [\d:]+"));
        guest.Send("echo SUMS $(md5sum </dev/sda) $(md5sum </dev/sr0)\n");
        Assert.Equal($"{onDisk} - {onDisc}", guest.Value("SUMS", "[0-9a-f]{32} - [0-9a-f]{32}"));
        guest.Send("dd if=/dev/sr0 of=/dev/sda bs=1M seek=5 conv=fsync && echo WRITTEN $((1 + 1))\n");
        Assert.Equal("2", guest.Value("WRITTEN", @"\d"));

        Assert.Equal("", monitor.Run("device_add scsi-hd,drive=more,id=new,bus=scsi0.0,scsi-id=7"));
        guest.Send("while [ ! -e /dev/sdb ]; do sleep 0.1; done; echo CAME $(cat /sys/block/sdb/size)\n");
        Assert.Equal($"{Megabyte / 512}", guest.Value("CAME", @"\d+"));
        Assert.Equal("", monitor.Run("device_del new"));
        guest.Send("while [ -e /dev/sdb ]; do sleep 0.1; done; echo WENT $((1 + 1))\n");
        Assert.Equal("2", guest.Value("WENT", @"\d"));

        Assert.Equal("", monitor.Run("eject disc"));
        guest.Send("dd if=/dev/sr0 of=/dev/null bs=2k count=1 2>/dev/null; echo OUT $?\n");
        Assert.Equal("1", guest.Value("OUT", @"\d"));
        Assert.Equal("", monitor.Run($"change disc {other} raw"));
        guest.Send("echo NOW $(md5sum </dev/sr0); poweroff -f\n");
        Assert.Equal(SumOf(File.ReadAllBytes(other)), guest.Value("NOW", "[0-9a-f]{32}"));
        Assert.Equal(0, guest.WaitExit());
        Assert.Equal(onDisc, SumOf(File.ReadAllBytes(disk).AsSpan(5 * Megabyte, 3 * Megabyte)));
    }

    [TinyTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void Two_namespaces_of_an_NVMe_controller(string machine)
    {
        string first = Disk("first", 12), second = Disk("second", 3);
        string onFirst = SumOf(File.ReadAllBytes(first)), onSecond = SumOf(File.ReadAllBytes(second));
        using GuestProcess guest = Start("-machine", machine,
            "-drive", $"if=none,id=first,format=raw,file={first}", "-device", "nvme,id=n,serial=S1,drive=first",
            "-drive", $"if=none,id=second,format=raw,file={second}", "-device", "nvme-ns,bus=n,drive=second,nsid=7");
        guest.Expect("TINY READY");
        guest.Send("while [ ! -e /dev/nvme0n1 ]; do sleep 0.1; done; "
            + "echo NAMES $(cat /sys/class/nvme/nvme0/serial) $(ls /dev | grep -c nvme0n)\n");
        Assert.Equal("S1 2", guest.Value("NAMES", @"\w+ \d"));
        guest.Send("for i in /dev/nvme0n*; do set -- $* $(md5sum <$i); done; echo SUMS $1 $3\n");
        Assert.Equal($"{onFirst} {onSecond}", guest.Value("SUMS", "[0-9a-f]{32} [0-9a-f]{32}"));
        guest.Send("set -- /dev/nvme0n*; dd if=$2 of=$1 bs=1M seek=5 conv=fsync && echo WRITTEN $((1 + 1)); "
            + "poweroff -f\n");
        Assert.Equal("2", guest.Value("WRITTEN", @"\d"));
        Assert.Equal(0, guest.WaitExit());
        Assert.Equal(onSecond, SumOf(File.ReadAllBytes(first).AsSpan(5 * Megabyte, 3 * Megabyte)));
    }
}
