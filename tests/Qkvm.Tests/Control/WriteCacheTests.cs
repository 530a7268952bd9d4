using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>write-cache= of a disk is auto unless given: what cache= of its drive says.</summary>
public class WriteCacheTests
{
    [Theory]
    [InlineData("virtio-blk-pci", false, "auto", false)]
    [InlineData("virtio-blk-pci", true, "auto", true)]
    [InlineData("virtio-blk-pci", false, "on", true)]
    [InlineData("virtio-blk-pci", true, "off", false)]
    [InlineData("ide-hd", false, "auto", false)]
    [InlineData("ide-hd", false, "on", true)]
    [InlineData("ide-hd", true, "off", false)]
    public void The_drives_cache_decides_unless_the_device_does(string device, bool drive, string given, bool expected)
    {
        using var bench = new ControlBench(config => config with
        {
            Devices = [new DeviceConfig(device, null, [new("drive", "disk"), new("write-cache", given)], "-device")],
        }, writeCache: drive);
        Assert.Equal(expected, bench.OnLoop(() => bench.Backends.Drives["disk"].WriteCache));
    }
}
