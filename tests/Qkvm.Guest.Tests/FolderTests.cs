namespace Qkvm.Guest.Tests;

/// <summary>Linux mounts a folder of the host by 9P.</summary>
public sealed class FolderTests : IDisposable
{
    const string Mount = "stty -echo; PS1=; modprobe -a virtio_pci 9p 9pnet_virtio; "
        + "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000";

    readonly ScratchDirectory _files = new();
    readonly string _shared;

    public FolderTests() => Directory.CreateDirectory(_shared = _files["shared"]);

    public void Dispose() => _files.Dispose();

    GuestProcess Start(params string[] more) => GuestProcess.Start(["-accel", "tcg", "-m", "256M", "-nodefaults",
        "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel, "-initrd",
        Surroundings.CardsSmallInitrd, "-append", "console=ttyS0 quiet panic=-1", .. more]);

    static string Ask(GuestProcess guest, string what, string commands, string pattern)
    {
        guest.Send($"{commands}; echo {what} $(cat /tmp/answer | tr '\\n' ' ')\n");
        return guest.Value(what, pattern).TrimEnd();
    }

    [CardsTheory]
    [InlineData("pc")]
    public void It_comes_read_only_as_libvirt_says_it_and_goes(string machine)
    {
        File.WriteAllText(Path.Combine(_shared, "ours"), "ours");
        using GuestProcess guest = Start("-machine", machine, "-monitor", $"unix:{_files["m"]},server=on,wait=off",
            "-fsdev", $"local,security_model=passthrough,readonly=on,multidevs=remap,id=fsdev-fs0,path={_shared}",
            "-device", """
            {"driver":"virtio-9p-pci","id":"fs0","fsdev":"fsdev-fs0","mount_tag":"first","bus":"pci.0"}
            """);
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(_files["m"]);
        guest.Send($"{Mount} first /mnt\n");
        Assert.Equal("Read-only", Ask(guest, "WRITE", "touch /mnt/x 2>&1 | grep -o Read-only >/tmp/answer; "
            + "umount /mnt", "Read-only"));
        Assert.Equal("", monitor.Run("device_add virtio-9p-pci,id=more,fsdev=fsdev-fs0,mount_tag=second"));
        Assert.Equal("ours", Ask(guest, "SECOND", "while ! mount -t 9p -o trans=virtio,version=9p2000.u second /mnt "
            + "2>/dev/null; do sleep 0.1; done; cat /mnt/ours >/tmp/answer; umount /mnt", "ours"));
        Assert.Equal("", monitor.Run("device_del more"));
        Assert.True(SpinWait.SpinUntil(() => !monitor.Run("info qtree").Contains("\"more\"", StringComparison.Ordinal),
            Surroundings.Patience), "it stays though the guest has let go");
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
