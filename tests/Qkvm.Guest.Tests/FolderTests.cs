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

    /// <summary>And waits for it: until then the terminal shows what it is sent among what it answers.</summary>
    static void MountIt(GuestProcess guest, string tag)
    {
        guest.Send($"{Mount} {tag} /mnt; echo MOUNTED $((1 + 1))\n");
        guest.Expect("MOUNTED 2");
    }

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
        MountIt(guest, "first");
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

    /// <summary>What Linux makes is there for itself and, with the mapped models, plain files for the host.</summary>
    [CardsTheory]
    [InlineData("mapped-xattr")] [InlineData("mapped-file")]
    public void Files_links_owners_and_data(string model)
    {
        // The guest finds what to do in the folder: a terminal takes no long lines.
        File.WriteAllText(Path.Combine(_shared, "script"), """
            cd /mnt
            mkdir many
            i=0
            while [ $i -lt 500 ]; do : >many/$i; i=$((i + 1)); done
            ls many | wc -l
            rm -r many
            mkdir d
            echo hello >d/a
            ln d/a d/b
            ln -s a d/link
            mv d/a d/file
            chown 12:34 d/file
            chmod 4750 d/file
            mknod d/pipe p
            mknod d/null c 1 3
            stat -c '%a %u:%g %h' d/file
            stat -c '%F' d/link d/pipe d/null
            readlink d/link
            exec 5<d/b
            rm d/b
            cat <&5
            exec 5<&-
            dd if=/dev/urandom of=big bs=64k count=80 2>/dev/null
            dd if=/dev/zero of=big bs=1k seek=1000 count=10 conv=notrunc 2>/dev/null
            truncate -s 5000000 big
            sha1sum <big
            """);
        using GuestProcess guest = Start("-virtfs", $"local,path={_shared},mount_tag=host,security_model={model}");
        guest.Expect("TINY READY");
        MountIt(guest, "host");
        string answer = Ask(guest, "MADE", "sh /mnt/script >/tmp/answer 2>&1; umount /mnt", "[^\\r\\n]+ -");
        string big = Path.Combine(_shared, "big"), folder = Path.Combine(_shared, "d");
        string hash = Convert.ToHexStringLower(System.Security.Cryptography.SHA1.HashData(File.ReadAllBytes(big)));
        Assert.Equal($"500 4750 12:34 2 symbolic link fifo character special file a hello {hash} -", answer);
        Assert.Equal(5_000_000, new FileInfo(big).Length);
        Assert.All(["file", "link", "pipe", "null"], name =>
            Assert.Equal(FileAttributes.None, File.GetAttributes(Path.Combine(folder, name))
                & (FileAttributes.ReparsePoint | FileAttributes.Device | FileAttributes.Directory)));
        Assert.Equal("a", File.ReadAllText(Path.Combine(folder, "link")));
        Assert.False(File.Exists(Path.Combine(folder, "b")));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
