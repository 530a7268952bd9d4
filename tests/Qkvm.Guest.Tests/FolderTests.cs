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

    string Share(string model) => $"local,path={_shared},mount_tag=host,security_model={model}";

    static string Ask(GuestProcess guest, string what, string commands, string pattern)
    {
        guest.Send($"{commands}; echo {what} $(cat /tmp/answer | tr '\\n' ' ')\n");
        return guest.Value(what, pattern).TrimEnd();
    }

    [CardsTheory]
    [InlineData("pc", "mapped-xattr")]
    [InlineData("q35", "mapped-file")]
    [InlineData("q35", "none")]
    public void Files_folders_links_owners_and_data(string machine, string model)
    {
        File.WriteAllText(Path.Combine(_shared, "ours"), "from the host\n");
        using GuestProcess guest = Start("-machine", machine, "-virtfs", Share(model));
        guest.Expect("TINY READY");
        guest.Send($"{Mount} host /mnt; cd /mnt\n");
        Assert.Equal("from the host", Ask(guest, "OURS", "cat ours >/tmp/answer", "from the host"));
        Assert.Equal("b 600 5 6 theirs", Ask(guest, "NAMES", "mkdir d; echo theirs >a; mv a d/b; ln -s b d/l; "
            + "ln d/b d/h; chmod 600 d/b; chown 5:6 d/b; (readlink d/l; stat -c '%a %u %g' d/h; cat d/l) >/tmp/answer",
            "b [0-9 ]+ theirs"));
        Assert.Equal("pipe 1 3", Ask(guest, "NODES", "mknod d/null c 1 3; mkfifo d/p; (echo pipe >d/p &); "
            + "(cat d/p; stat -c '%t %T' d/null) >/tmp/answer", "pipe 1 3"));
        Assert.Equal("same", Ask(guest, "DATA", "dd if=/dev/urandom of=/tmp/big bs=1M count=9 2>/dev/null; "
            + "cp /tmp/big d/big; echo 3 >/proc/sys/vm/drop_caches; "
            + "(cmp /tmp/big d/big && echo same) >/tmp/answer 2>&1", "same|.*differ.*"));
        Assert.Equal("700", Ask(guest, "MANY", "mkdir many; i=0; while [ $i -lt 700 ]; do : >many/$i; i=$((i+1)); "
            + "done; ls many | wc -l >/tmp/answer; rm -r many", @"\d+"));
        Assert.Equal("kept", Ask(guest, "OPEN", "echo kept >o; exec 4<o; rm o; cat <&4 >/tmp/answer; exec 4<&-",
            "kept"));
        guest.Send("cd /; umount /mnt; poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
        Assert.False(Directory.Exists(Path.Combine(_shared, "many")));
        Assert.Equal(9 << 20, new FileInfo(Path.Combine(_shared, "d/big")).Length);
        Assert.Equal(model == "none", new FileInfo(Path.Combine(_shared, "d/l")).LinkTarget != null);
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
