using System.Security.Cryptography;
using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests;

/// <summary>The machine q35 with Linux: its disks and ports, and cards that come and go behind a port.</summary>
public sealed class Q35Tests
{
    [CardsTheory]
    [InlineData(2)]
    public void Linux_finds_the_chipset_reads_its_disk_and_hears_of_cards_that_come_and_go(int cpus)
    {
        using var directory = new ScratchDirectory();
        string disk = directory.Write("disk", RandomNumberGenerator.GetBytes(4 << 20));
        string sum = Convert.ToHexStringLower(MD5.HashData(File.ReadAllBytes(disk)));
        string socket = directory["monitor"];
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-machine", "q35", "-smp", $"{cpus}",
            "-m", "256M", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
            "-append", "console=ttyS0 quiet panic=-1", "-monitor", $"unix:{socket},server=on,wait=off",
            "-drive", $"file={disk},format=raw", "-device", "pcie-root-port,id=port,chassis=1,slot=1");
        guest.Expect("TINY READY");
        guest.Send("modprobe sd_mod; while [ ! -e /dev/sda ]; do sleep 0.1; done; echo DISK $(md5sum </dev/sda)\n");
        Assert.Equal(sum, guest.Value("DISK", "[0-9a-f]{32}"));
        guest.Send("echo ECAM $(grep -c 'PCI MMCONFIG' /proc/iomem) PORT $(cat /sys/bus/pci/devices/*/device "
            + "| grep -c 0x000c)\n");
        Assert.Equal("1 PORT 1", guest.Value("ECAM", @"\d PORT \d"));
        guest.Send("echo FAULTS $(dmesg | grep -c 'ACPI.*Error')\n");
        Assert.Equal("0", guest.Value("FAULTS", @"\d+"));

        guest.Send("echo COMPLAINTS $(dmesg | grep -c 'ACPI.*Error')\n");
        Assert.Equal("0", guest.Value("COMPLAINTS", @"\d+"));

        using var monitor = new MonitorClient(socket);
        Assert.Equal("", monitor.Run("device_add virtio-rng-pci,id=new,bus=port"));
        guest.Send("while [ ! -e /sys/bus/pci/devices/0000:01:00.0 ]; do sleep 0.1; done; "
            + "echo CAME $(cat /sys/bus/pci/devices/0000:01:00.0/device)\n");
        Assert.Equal("0x1044", guest.Value("CAME", "0x[0-9a-f]{4}"));     // modern alone: it is behind a port
        Assert.Equal("", monitor.Run("device_del new"));
        Assert.Contains("\"new\"", monitor.Run("info qtree"), StringComparison.Ordinal);     // the guest is asked
        guest.Send("while [ -e /sys/bus/pci/devices/0000:01:00.0 ]; do sleep 0.1; done; echo WENT $((1 + 1))\n");
        Assert.Equal("2", guest.Value("WENT", @"\d"));
        Assert.True(SpinWait.SpinUntil(() => !monitor.Run("info qtree").Contains("\"new\"", StringComparison.Ordinal),
            Surroundings.Patience), "the device stays though the guest has switched it off");
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
