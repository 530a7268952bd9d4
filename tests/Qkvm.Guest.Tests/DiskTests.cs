using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>Linux's driver of virtio disks: queues on threads of their own, and images that take what is
/// read.</summary>
public sealed class DiskTests : IDisposable
{
    const int Megabyte = 1 << 20;

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    GuestProcess Start(params string[] more) => GuestProcess.Start(["-accel", "tcg", "-m", "256M", "-nodefaults",
        "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel,
        "-initrd", Surroundings.CardsSmallInitrd, "-append", "console=ttyS0 quiet panic=-1",
        "-monitor", $"unix:{_files["monitor"]},server=on,wait=off", .. more]);

    static string SumOf(ReadOnlySpan<byte> data) => Convert.ToHexStringLower(MD5.HashData(data));

    const string WaitForDisk = "stty -echo; PS1=; modprobe -a virtio_pci virtio_blk; "
        + "while [ ! -b /dev/vda ]; do sleep 0.1; done; ";

    const int Queues = 4, Part = 2;                                // MiB that each queue writes

    [CardsTheory]
    [InlineData("""[{"iothread":"t0"},{"iothread":"t1"}]""")]
    [InlineData("""[{"iothread":"t0","vqs":[0,3]},{"iothread":"t1","vqs":[1,2]}]""")]
    public void Queues_on_two_threads_go_on_after_pauses_and_the_disk_goes(string mapping)
    {
        byte[] contents = RandomNumberGenerator.GetBytes(2 * Queues * Part * Megabyte);
        string disk = _files.Write("disk", contents);
        using GuestProcess guest = Start("-smp", $"{Queues}", "-object", "iothread,id=t0", "-object", "iothread,id=t1",
            "-blockdev", $"raw,node-name=disk,file.driver=file,file.filename={disk}", "-device",
            $$"""
            {"driver":"virtio-blk-pci","id":"d","drive":"disk","num-queues":{{Queues}},
            "iothread-vq-mapping":{{mapping}}}
            """);
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(_files["monitor"]);
        guest.Send(WaitForDisk + "echo HAS $(ls /sys/block/vda/mq | wc -l) $(md5sum </dev/vda)\n");
        Assert.Equal($"{Queues} {SumOf(contents)}", guest.Value("HAS", @"\d [0-9a-f]{32}"));

        // Each processor has a queue of its own, and copies a part of the second half to the first, several times.
        const int blocks = Part * 16;
        guest.Send("copy() { for n in 1 2 3 4 5 6; do taskset $((1 << $1)) dd if=/dev/vda of=/dev/vda bs=64k "
            + $"count={blocks} skip=$((({Queues} + $1) * {blocks})) seek=$(($1 * {blocks})) conv=fsync,notrunc "
            + "2>/dev/null; done; }; echo 3 >/proc/sys/vm/drop_caches; echo BEGIN $((1 + 1)); "
            + "for i in 0 1 2 3; do copy $i & done; wait; echo COPIED $((1 + 1))\n");
        guest.Value("BEGIN", @"\d");
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal("", monitor.Run("stop"));
            Assert.Contains("paused", monitor.Run("info status"), StringComparison.Ordinal);
            Assert.Equal("", monitor.Run("cont"));
        }
        Assert.Equal("2", guest.Value("COPIED", @"\d"));

        Assert.Contains("in use", monitor.Run("object_del t0"), StringComparison.Ordinal);
        Assert.Equal("", monitor.Run("device_del d"));
        guest.Send("while [ -e /dev/vda ]; do sleep 0.1; done; echo WENT $((1 + 1))\n");
        Assert.Equal("2", guest.Value("WENT", @"\d"));
        Assert.True(SpinWait.SpinUntil(() => !monitor.Run("info qtree").Contains("\"d\"", StringComparison.Ordinal),
            Surroundings.Patience), "the disk stays though the guest has let go");
        foreach (string id in (string[])["t0", "t1"]) Assert.Equal("", monitor.Run($"object_del {id}"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
        contents.AsSpan(contents.Length / 2).CopyTo(contents);
        Assert.Equal(contents, File.ReadAllBytes(disk));
    }

    [CardsImageTheory]
    [InlineData("-drive", "if=virtio,format=qcow2,copy-on-read=on,file=")]
    [InlineData("-blockdev", "copy-on-read,node-name=disk,file.driver=qcow2,file.file.driver=file,file.file.filename=")]
    public void An_image_has_then_what_was_read(string option, string value)
    {
        const int data = 8 * Megabyte;
        var contents = new byte[data + 4 * Megabyte];
        RandomNumberGenerator.Fill(contents.AsSpan(0, data));
        string disk = _files.Write("base", contents), overlay = _files["overlay"];
        Tool("create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay);
        string[] device = option == "-blockdev" ? ["-device", "virtio-blk-pci,drive=disk"] : [];
        using GuestProcess guest = Start([option, value + overlay, .. device]);
        guest.Expect("TINY READY");
        guest.Send(WaitForDisk + "echo SUM $(md5sum </dev/vda); poweroff -f\n");
        Assert.Equal(SumOf(contents), guest.Value("SUM", "[0-9a-f]{32}"));
        Assert.Equal(0, guest.WaitExit());
        Tool("check", "-q", overlay);
        Tool("rebase", "-u", "-f", "qcow2", "-b", "", overlay);    // what it has not itself is zeros now
        Tool("compare", "-q", "-f", "qcow2", "-F", "raw", overlay, disk);
    }

    static void Tool(params string[] arguments)
    {
        using GuestProcess tool = GuestProcess.StartOther("qemu-img", arguments);
        int code = tool.WaitExit();
        Assert.True(code == 0, $"qemu-img {string.Join(' ', arguments)}: {code}\n{tool.Output}{tool.Errors}");
    }
}
