using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>Linux takes cards, processors and memory while it runs, and gives them back; it sleeps and is
/// woken.</summary>
public sealed class HotPlugTests
{
    static GuestProcess Start(string machine, string socket, params string[] more) => GuestProcess.Start(["-accel",
        "tcg", "-machine", machine, "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
        "-append", "console=ttyS0 quiet panic=-1", "-monitor", $"unix:{socket},server=on,wait=off", .. more]);

    static void WaitUntilGone(MonitorClient monitor, string command, string word) =>
        Assert.True(SpinWait.SpinUntil(() => !monitor.Run(command).Contains(word, StringComparison.Ordinal),
            Surroundings.Patience), $"{word} stays though the guest has let go");

    [CardsTheory]
    [InlineData("")]
    [InlineData("bridge")]
    public void A_card_comes_to_pc_and_goes(string bus)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = Start("pc", socket, "-m", "256M", "-device", "pci-bridge,id=bridge,chassis_nr=1");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(socket);
        string where = bus.Length > 0 ? $",bus={bus}" : "";
        Assert.Equal("", monitor.Run($"device_add virtio-net-pci,id=net,mac=52:54:00:12:34:99,acpi-index=7{where}"));
        guest.Send("modprobe -a virtio_pci virtio_net; while [ ! -e /sys/class/net/eth0 ]; do sleep 0.1; done; "
            + "echo MAC $(cat /sys/class/net/eth0/address) INDEX $(cat /sys/class/net/eth0/device/../acpi_index)\n");
        Assert.Equal("52:54:00:12:34:99 INDEX 7", guest.Value("MAC", @"[0-9a-f:]+ INDEX \d+"));
        Assert.Equal("", monitor.Run("device_del net"));
        guest.Send("while [ -e /sys/class/net/eth0 ]; do sleep 0.1; done; echo WENT $((1 + 1))\n");
        Assert.Equal("2", guest.Value("WENT", @"\d"));
        WaitUntilGone(monitor, "info qtree", "\"net\"");
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    [CardsTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void A_processor_comes_works_and_goes(string machine)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = Start(machine, socket, "-m", "256M", "-smp", "1,maxcpus=2,sockets=2");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(socket);
        Assert.Equal("",
            monitor.Run("device_add qemu64-x86_64-cpu,id=second,socket-id=1,core-id=0,thread-id=0"));
        guest.Send("cd /sys/devices/system/cpu/; while [ ! -e cpu1/online ]; do sleep 0.1; done; echo 1 >cpu1/online; "
            + "echo HAS $(nproc) ON $(taskset 2 cut -d' ' -f39 /proc/self/stat)\n");
        Assert.Equal("2 ON 1", guest.Value("HAS", @"\d ON \d"));
        Assert.Contains("CPU #1", monitor.Run("info cpus"), StringComparison.Ordinal);
        Assert.Equal("", monitor.Run("device_del second"));
        guest.Send("while [ -e cpu1/online ]; do sleep 0.1; done; echo LEFT $(nproc)\n");
        Assert.Equal("1", guest.Value("LEFT", @"\d"));
        WaitUntilGone(monitor, "info cpus", "CPU #1");
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    [CardsTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void Memory_comes_is_used_and_goes(string machine)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = Start(machine, socket, "-m", "256M,slots=2,maxmem=1G");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(socket);
        guest.Send("total() { sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }; echo BEFORE $(total)\n");
        int before = int.Parse(guest.Value("BEFORE", @"\d+"));
        Assert.Equal("", monitor.Run("object_add memory-backend-ram,id=more,size=512M"));
        Assert.Equal("", monitor.Run("device_add pc-dimm,id=dimm,memdev=more"));
        guest.Send("cd /sys/devices/system/memory; while ! grep -q offline memory*/state; do sleep 0.1; done; "
            + "while grep -q offline memory*/state; do for i in memory*; do "
            + "echo online_movable >$i/state; done; sleep 0.1; done 2>/dev/null; echo AFTER $(total)\n");
        Assert.Equal(before + (512 << 10), int.Parse(guest.Value("AFTER", @"\d+")));
        // more than was there before
        guest.Send($"mount -t tmpfs -o size=90% x /mnt; dd if=/dev/zero bs=1M count={Used} 2>/dev/null | tr '\\0' x "
            + ">/mnt/x; echo SUM $(md5sum </mnt/x); umount /mnt\n");
        Assert.Equal(SumOfUsed(), guest.Value("SUM", "[0-9a-f]{32}"));
        Assert.Equal("", monitor.Run("device_del dimm"));
        guest.Send($"while [ $(total) -gt {before} ]; do sleep 0.1; done; echo LEFT $(total)\n");
        Assert.Equal(before, int.Parse(guest.Value("LEFT", @"\d+")));
        WaitUntilGone(monitor, "info memory-devices", "dimm");
        Assert.Equal("", monitor.Run("object_del more"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    const int Used = 320;                                          // MiB

    static string SumOfUsed()
    {
        byte[] piece = new byte[1 << 20];
        Array.Fill(piece, (byte)'x');
        using var sum = IncrementalHash.CreateHash(HashAlgorithmName.MD5);
        for (int i = 0; i < Used; i++) sum.AppendData(piece);
        return Convert.ToHexStringLower(sum.GetHashAndReset());
    }

    [CardsTheory]
    [InlineData("pc", 2, "system_wakeup")]
    [InlineData("q35", 2, "sendkey a")]
    public void The_guest_sleeps_and_goes_on_again_and_again(string machine, int cpus, string wake)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = Start(machine, socket, "-m", "256M", "-smp", $"{cpus}");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(socket);
        guest.Send("echo kept >/tmp/note\n");
        for (int round = 0; round < 2; round++)
        {
            guest.Send("echo mem >/sys/power/state; "
                + $"echo NOTE{round} $(cat /tmp/note) $(nproc) $(dmesg | grep -c 'Waking up from system sleep')\n");
            Assert.True(SpinWait.SpinUntil(() => monitor.Run("info status").Contains("suspended",
                StringComparison.Ordinal), Surroundings.Patience), "it does not sleep");
            Assert.Equal("", monitor.Run(wake));
            Assert.Equal($"kept {cpus} {round + 1}", guest.Value($"NOTE{round}", @"kept \d \d"));
        }
        Assert.Contains("Unable to wake up: guest is not in suspended state", monitor.Run("system_wakeup"),
            StringComparison.Ordinal);
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    [CardsTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void The_clock_s_alarm_wakes_a_guest(string machine)
    {
        using var directory = new ScratchDirectory();
        using GuestProcess guest = Start(machine, directory["monitor"], "-m", "256M");
        guest.Expect("TINY READY");
        guest.Send("echo +3 >/sys/class/rtc/rtc0/wakealarm; echo mem >/sys/power/state; echo WOKEN $((1 + 1))\n");
        Assert.Equal("2", guest.Value("WOKEN", @"\d"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
