using System.Security.Cryptography;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>Needs QEMU's virtiofsd, which makes name spaces, and the guest with all drivers.</summary>
sealed class VirtiofsdFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutCards
    ?? (File.Exists(VhostUserTests.Virtiofsd) ? null : $"needs {VhostUserTests.Virtiofsd} (Debian 12: "
        + "qemu-system-common)") ?? (Environment.IsPrivilegedProcess ? null : "needs root, to make name spaces"));

/// <summary>Needs QEMU's storage daemon, and the guest with all drivers.</summary>
sealed class StorageDaemonFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutCards
    ?? Surroundings.Without("qemu-storage-daemon", "qemu-system-common"));

/// <summary>Other people's daemons serve a guest's devices, and die.</summary>
public sealed class VhostUserTests : IDisposable
{
    public const string Virtiofsd = "/usr/lib/qemu/virtiofsd";
    const string Gone = "the peer has gone; ";

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    GuestProcess Start(params string[] more) => GuestProcess.Start(["-accel", "tcg", "-m", "256M", "-nodefaults",
        "-display", "none", "-serial", "stdio", "-object", "memory-backend-memfd,id=mem,size=256M,share=on",
        "-machine", "pc,memory-backend=mem", "-monitor", $"unix:{_files["monitor"]},server=on,wait=off",
        "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
        "-append", "console=ttyS0 quiet panic=-1", .. more]);

    string Shared => _files["shared"];

    GuestProcess StartVirtiofsd() => StartDaemon("fs", Virtiofsd, $"--socket-path={_files["fs"]}",
        "-o", $"source={Shared}");

    GuestProcess StartStorageDaemon() => StartDaemon("blk", "qemu-storage-daemon",
        "--blockdev", $"driver=file,node-name=f,filename={_files["disk"]}",
        "--export", $"type=vhost-user-blk,id=e,node-name=f,writable=on,addr.type=unix,addr.path={_files["blk"]}");

    GuestProcess StartDaemon(string socket, string program, params string[] arguments)
    {
        File.Delete(_files[socket]);
        GuestProcess daemon = GuestProcess.StartOther(program, arguments);
        Assert.True(SpinWait.SpinUntil(() => File.Exists(_files[socket]), Surroundings.Patience), daemon.Errors);
        return daemon;
    }

    static void Kill(GuestProcess daemon)
    {
        daemon.Signal(9);
        daemon.WaitExit();
    }

    static string SumOf(byte[] data) => Convert.ToHexStringLower(MD5.HashData(data));

    static void AwaitError(GuestProcess guest, string text) => Assert.True(SpinWait.SpinUntil(() =>
        guest.Errors.Contains(text, StringComparison.Ordinal), Surroundings.Patience), $"\"{text}\" did not come");

    const string Mount = "modprobe virtiofs; mount -t virtiofs share /mnt; ";

    [VirtiofsdFact]
    public void A_directory_of_the_host_is_the_guests_until_its_daemon_dies()
    {
        byte[] data = RandomNumberGenerator.GetBytes(5_000_001);
        Directory.CreateDirectory(Shared);
        File.WriteAllBytes(Path.Combine(Shared, "host"), data);
        using GuestProcess daemon = StartVirtiofsd();
        using GuestProcess guest = Start("-chardev", $"socket,id=c,path={_files["fs"]},reconnect=1",
            "-device", "vhost-user-fs-pci,id=fs,chardev=c,tag=share,queue-size=1024");
        guest.Expect("TINY READY");
        guest.Send("stty -echo; PS1=; " + Mount + "echo SUM $(md5sum </mnt/host); cp /mnt/host /mnt/guest; sync; "
            + "mkdir /mnt/d; ln -s ../host /mnt/d/l; cp /bin/busybox /mnt/sh; "
            + "echo RAN $(/mnt/sh -c 'echo $((40 + 2))')\n");
        Assert.Equal(SumOf(data), guest.Value("SUM", "[0-9a-f]{32}"));
        Assert.Equal("42", guest.Value("RAN", @"\d+"));            // a program whose pages the daemon wrote
        Assert.Equal(data, File.ReadAllBytes(Path.Combine(Shared, "guest")));
        Assert.Equal("../host", new FileInfo(Path.Combine(Shared, "d/l")).LinkTarget);
        using var monitor = new MonitorClient(_files["monitor"]);
        Assert.Contains("[virtio-user-fs]", monitor.Run("info virtio"), StringComparison.Ordinal);

        Kill(daemon);
        AwaitError(guest, Gone + "the guest's mount does not answer");
        guest.Send("(ls /mnt/d &) ; echo ALIVE $((1 + 1))\n");
        Assert.Equal("2", guest.Value("ALIVE", @"\d"));
        using GuestProcess next = StartVirtiofsd();
        monitor.Run("system_reset");
        guest.Expect("TINY READY", occurrence: 2);
        guest.Send("stty -echo; PS1=; " + Mount + "echo AGAIN $(md5sum </mnt/guest); poweroff -f\n");
        Assert.Equal(SumOf(data), guest.Value("AGAIN", "[0-9a-f]{32}"));
        Assert.Equal(0, guest.WaitExit());
        Assert.Single(guest.Errors.Split('\n'), line => line.Contains(Gone, StringComparison.Ordinal));
    }

    [VirtiofsdFact]
    public void A_directory_comes_to_a_running_guest_and_goes()
    {
        Directory.CreateDirectory(Shared);
        File.WriteAllText(Path.Combine(Shared, "host"), "hello\n");
        using GuestProcess guest = Start();
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(_files["monitor"]);
        for (int turn = 1; turn <= 2; turn++)
        {
            using GuestProcess daemon = StartVirtiofsd();
            Assert.Equal("", monitor.Run($"chardev-add socket,id=c,path={_files["fs"]}"));
            Assert.Equal("", monitor.Run("device_add vhost-user-fs-pci,id=fs,chardev=c,tag=share"));
            guest.Send("stty -echo; PS1=; modprobe -a virtio_pci virtiofs; "
                + $"while ! mount -t virtiofs share /mnt 2>/dev/null; do sleep 0.1; done; "
                + $"echo READ{turn} $(cat /mnt/host); umount /mnt; echo LEFT{turn} $((1 + 1))\n");
            Assert.Equal("hello", guest.Value($"READ{turn}", @"\w+"));
            guest.Value($"LEFT{turn}", @"\d");
            Assert.Equal("", monitor.Run("device_del fs"));
            Assert.True(SpinWait.SpinUntil(() => !monitor.Run("info qtree").Contains("\"fs\"",
                StringComparison.Ordinal), Surroundings.Patience), "the device stays");
            Assert.Equal("", monitor.Run("chardev-remove c"));
            Assert.Equal(0, daemon.WaitExit());                    // its connection has ended
        }
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
        Assert.DoesNotContain(Gone, guest.Errors, StringComparison.Ordinal);
    }

    [StorageDaemonFact]
    public void A_disk_of_the_storage_daemon_goes_on_with_the_next_one()
    {
        byte[] data = RandomNumberGenerator.GetBytes(16 << 20);
        File.WriteAllBytes(_files["disk"], data);
        using GuestProcess daemon = StartStorageDaemon();
        using GuestProcess guest = Start("-no-reboot", "-chardev", $"socket,id=c,path={_files["blk"]},reconnect=1",
            "-device", "vhost-user-blk-pci,chardev=c");
        guest.Expect("TINY READY");
        guest.Send("stty -echo; PS1=; modprobe virtio_blk; while [ ! -b /dev/vda ]; do sleep 0.1; done; "
            + "echo SIZE $(cat /sys/block/vda/size); echo SUM $(md5sum </dev/vda); "
            + "tr '\\0' x </dev/zero | dd of=/dev/vda bs=1M count=3 iflag=fullblock conv=fsync 2>/dev/null; "
            + "echo WROTE $((1 + 1))\n");
        Assert.Equal("32768", guest.Value("SIZE", @"\d+"));
        Assert.Equal(SumOf(data), guest.Value("SUM", "[0-9a-f]{32}"));
        guest.Value("WROTE", @"\d");
        data.AsSpan(0, 3 << 20).Fill((byte)'x');
        Assert.Equal(data, File.ReadAllBytes(_files["disk"]));

        Kill(daemon);
        AwaitError(guest, Gone + "the disk does not answer until one comes again");
        guest.Send("echo 3 >/proc/sys/vm/drop_caches; (echo AGAIN $(md5sum </dev/vda) &); echo ALIVE $((1 + 1))\n");
        guest.Value("ALIVE", @"\d");
        using GuestProcess next = StartStorageDaemon();
        Assert.Equal(SumOf(data), guest.Value("AGAIN", "[0-9a-f]{32}"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
