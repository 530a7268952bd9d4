using System.Globalization;
using System.Text;

namespace Qkvm.Guest.Tests;

/// <summary>Linux's memory grows and shrinks as the monitor wishes, and a file of the host is a disk of
/// memory.</summary>
public sealed class VirtioMemoryTests
{
    const string Totals = "stty -echo; PS1=; total() { sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }; "
        + "echo online_movable >/sys/devices/system/memory/auto_online_blocks; ";

    static GuestProcess Start(string machine, params string[] more) => GuestProcess.Start(["-accel", "tcg",
        "-machine", machine, "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", Surroundings.CardsKernel,
        "-initrd", Surroundings.CardsSmallInitrd, "-append", "console=ttyS0 quiet panic=-1",
        "-m", "256M,maxmem=2G", .. more]);

    [CardsTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void Memory_grows_and_shrinks_and_begins_anew_with_the_machine(string machine)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = Start(machine, "-object", "memory-backend-ram,id=memory,size=1G",
            "-device", "virtio-mem-pci,id=grows,memdev=memory,requested-size=0",
            "-monitor", $"unix:{socket},server=on,wait=off");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(socket);
        guest.Send(Totals + "echo FIRST $(total)\n");
        int first = Number(guest, "FIRST");
        Resize(guest, monitor, first, 512, "GREW");
        // more than was there before
        guest.Send("mount -t tmpfs -o size=90% x /mnt; dd if=/dev/zero of=/mnt/x bs=1M count=320 2>/dev/null; "
            + "echo USED $(($(stat -c %s /mnt/x) >> 20)); umount /mnt\n");
        Assert.Equal(320, Number(guest, "USED"));
        Resize(guest, monitor, first, 128, "SHRANK");
        Assert.Contains("'requested-size' has to be multiples of 'block-size' (0x200000)",
            monitor.Run("qom-set /machine/peripheral/grows requested-size 1"), StringComparison.Ordinal);
        Assert.Contains("'requested-size' cannot exceed the memory backend size(0x40000000)",
            monitor.Run("qom-set /machine/peripheral/grows requested-size 2G"), StringComparison.Ordinal);

        Assert.Equal("", monitor.Run("system_reset"));             // it has none until its driver asks
        guest.Expect("TINY READY", occurrence: 2);
        guest.Send(Totals + $"while ls /sys/devices/system/memory | grep -q x || grep -q offline "
            + "/sys/devices/system/memory/memory*/state; do for i in /sys/devices/system/memory/memory*; do "
            + "echo online_movable >$i/state; done; sleep 0.1; done 2>/dev/null; "
            + $"while [ $(total) != {first + (128 << 10)} ]; do sleep 0.1; done; echo AGAIN $(total)\n");
        Assert.Equal(first + (128 << 10), Number(guest, "AGAIN"));
        monitor.SendLine("quit");
        Assert.Equal(0, guest.WaitExit());
    }

    /// <param name="first">What Linux has beside it, in KiB.</param>
    static void Resize(GuestProcess guest, MonitorClient monitor, int first, int mebibytes, string word)
    {
        Assert.Equal("", monitor.Run($"qom-set /machine/peripheral/grows requested-size {mebibytes}M"));
        int expected = first + (mebibytes << 10);
        guest.Send($"while [ $(total) != {expected} ]; do sleep 0.1; done; echo {word} $(total)\n");
        Assert.Equal(expected, Number(guest, word));
        Assert.Contains($"  size: {(long)mebibytes << 20}\n", monitor.Run("info memory-devices"),
            StringComparison.Ordinal);
    }

    static int Number(GuestProcess guest, string word) =>
        int.Parse(guest.Value(word, @"\d+"), CultureInfo.InvariantCulture);

    [CardsTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void A_file_is_a_disk_of_memory_and_has_what_was_flushed(string machine)
    {
        using var directory = new ScratchDirectory();
        string file = directory["pmem"];
        using GuestProcess guest = Start(machine, "-no-reboot", "-object",
            $"memory-backend-file,id=memory,share=on,mem-path={file},size=64M",
            "-device", "virtio-pmem-pci,memdev=memory");
        guest.Expect("TINY READY");
        guest.Send("stty -echo; PS1=; modprobe -a virtio_pmem nd_pmem; while [ ! -b /dev/pmem0 ]; do sleep 0.1; done; "
            + "echo kept | dd of=/dev/pmem0 bs=512 seek=7 conv=sync,fsync 2>/dev/null; "
            + "echo SIZE $(cat /sys/block/pmem0/size)\n");
        Assert.Equal(64 << 11, Number(guest, "SIZE"));
        Assert.Equal("kept\n", Encoding.ASCII.GetString(File.ReadAllBytes(file), 7 * 512, 5));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
