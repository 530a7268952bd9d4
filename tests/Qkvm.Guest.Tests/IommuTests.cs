using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>intel-iommu with Linux, whose driver translates and remaps all.</summary>
public sealed class IommuTests
{
    [CardsTheory]
    [InlineData("intel-iommu", "xapic")]
    [InlineData("intel-iommu,aw-bits=48,caching-mode=on,device-iotlb=on", "x2apic")]
    public void Linux_reads_disks_and_sends_frames_through_translated_memory_and_remapped_interrupts(string iommu,
        string mode)
    {
        using var directory = new ScratchDirectory();
        string[] disks = [.. new[] { "sata", "virtio" }.Select(name =>
            directory.Write(name, RandomNumberGenerator.GetBytes(2 << 20)))];
        string sums = string.Join(' ',
            disks.Select(disk => Convert.ToHexStringLower(MD5.HashData(File.ReadAllBytes(disk)))));
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-machine", "q35", "-smp", "2", "-m", "256M",
            "-cpu", $"qemu64,{(mode == "x2apic" ? '+' : '-')}x2apic", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel,
            "-initrd", Surroundings.CardsSmallInitrd,
            "-append", "console=ttyS0 quiet panic=-1 intel_iommu=on iommu.strict=1", "-device", iommu,
            "-device", "pcie-root-port,id=port,chassis=1,slot=1", "-drive", $"file={disks[0]},format=raw",
            "-drive", $"file={disks[1]},format=raw,if=none,id=v",
            "-device", "virtio-blk-pci,drive=v,iommu_platform=on,ats=on,bus=port",
            "-netdev", "hubport,hubid=0,id=a", "-device", "e1000e,netdev=a,mac=52:54:00:00:00:01",
            "-netdev", "hubport,hubid=0,id=b", "-device", "e1000e,netdev=b,mac=52:54:00:00:00:02");
        guest.Expect("TINY READY");
        guest.Send("modprobe sd_mod; modprobe virtio_blk; modprobe e1000e; while [ ! -e /dev/sda -o ! -e "
            + "/dev/vda ]; do sleep 0.1; done; echo DISKS $(md5sum </dev/sda | cut -c1-32) "
            + "$(md5sum </dev/vda | cut -c1-32)\n");
        Assert.Equal(sums, guest.Value("DISKS", "[0-9a-f]{32} [0-9a-f]{32}"));
        guest.Send("ip link set eth0 up; ip link set eth1 up; "
            + "while [ $(cat /sys/class/net/eth1/statistics/rx_packets) = 0 ]; do sleep 0.1; "
            + "arping -c 1 -w 1 -I eth0 10.0.0.1 >/dev/null; done; echo FRAMES $((1 + 1))\n");
        Assert.Equal("2", guest.Value("FRAMES", @"\d"));
        guest.Send("echo UNIT $(ls /sys/class/iommu) MODE $(dmesg | grep -o 'IRQ remapping in [x2]*apic') FAULTS "
            + "$(dmesg | grep -c 'DMAR.*fault') IR "
            + "$(grep -c 'IR-PCI-MSI.*\\(ahci\\|virtio\\|eth\\)' /proc/interrupts)\n");
        Assert.Matches($"^dmar0 MODE IRQ remapping in {mode} FAULTS 0 IR [1-9]",
            guest.Value("UNIT", @"dmar0 MODE [^\r\n]*IR \d+"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
