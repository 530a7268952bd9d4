using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Tests;

/// <summary>A block node gets a backend when a device takes it, and loses it with the device.</summary>
public class NodeBackendTests
{
    readonly MachineBackends _backends = new();
    int _made;

    public NodeBackendTests() => _backends.OpenNode = (name, _) =>
    {
        if (name != "node") return null;
        _made++;
        var backend = new BlockBackend(name, static action => action());
        backend.Insert(new MemoryDisk(512));
        return backend;
    };

    [Fact]
    public void It_is_made_for_the_first_who_takes_it_and_goes_with_him()
    {
        Assert.Empty(_backends.Drives);
        BlockBackend taken = _backends.TakeDrive("node", "disk0");
        Assert.Equal((taken, "disk0"), (_backends.Drives["node"], _backends.OwnerOfDrive("node")));
        Assert.Contains("in use by disk0", Assert.Throws<ConfigurationException>(() =>
            _backends.TakeDrive("node", "disk1")).Message);
        _backends.ReleaseDrive("node");
        Assert.Empty(_backends.Drives);
        Assert.NotSame(taken, _backends.TakeDrive("node", "disk1"));
        Assert.Equal(2, _made);
    }

    [Fact]
    public void What_is_neither_drive_nor_node_is_not_found() =>
        Assert.Contains("can't find value 'nothing'", Assert.Throws<ConfigurationException>(() =>
            _backends.TakeDrive("nothing", "disk0")).Message);
}
