using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>What monitors tell of nodes: QEMU 7.2's answers.</summary>
public sealed class NumaTests : IDisposable
{
    const ulong MiB = 1 << 20;

    readonly ControlBench _bench = new(config => config with
    {
        Topology = new CpuTopology(2, Sockets: 2, Cores: 2, MaxCpus: 4),
        Memory = new MemoryConfig(128 * MiB, 1024 * MiB, Slots: 2),
        Numa = new NumaConfig { Nodes = [new(96 * MiB), new(32 * MiB)], CpuNodes = [0, 1, 0, 1] },
    });

    public void Dispose() => _bench.Dispose();

    void AddMemory() =>
        Assert.Equal("", _bench.Human("object_add memory-backend-ram,id=more,size=64M,share=on"));

    [Fact]
    public void Nodes_have_the_processors_that_run_and_memory_that_came()
    {
        AddMemory();
        Assert.Equal("", _bench.Human("device_add pc-dimm,id=dimm,memdev=more,node=1"));
        Assert.Equal("2 nodes\nnode 0 cpus: 0\nnode 0 size: 96 MB\nnode 0 plugged: 0 MB\n"
            + "node 1 cpus: 1\nnode 1 size: 96 MB\nnode 1 plugged: 64 MB\n", _bench.Human("info numa"));
        Assert.Contains("  node: 1\n", _bench.Human("info memory-devices"));
    }

    [Fact]
    public void Processors_tell_their_nodes()
    {
        Assert.Contains("    node-id: \"1\"\n    socket-id: \"1\"\n    core-id: \"1\"\n",
            _bench.Human("info hotpluggable-cpus"));
        Assert.Equal("Error: invalid node-id, must be 0\n", _bench.Human(
            "device_add qemu64-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,node-id=1"));
        Assert.Equal("", _bench.Human(
            "device_add qemu64-x86_64-cpu,socket-id=1,core-id=1,thread-id=0,node-id=1"));
        Assert.Contains("node 1 cpus: 1 3\n", _bench.Human("info numa"));
    }

    [Fact]
    public void Memory_is_told_by_its_objects_and_the_machines_own()
    {
        AddMemory();
        Assert.Equal("memory backend: more\n  size:  67108864\n  merge: true\n  dump: true\n  prealloc: false\n"
            + "  share: true\n  reserve: true\n  policy: default\n  host nodes: \n"
            + "memory backend: pc.ram\n  size:  134217728\n  merge: true\n  dump: true\n  prealloc: false\n"
            + "  share: false\n  reserve: true\n  policy: default\n  host nodes: \n\n", _bench.Human("info memdev"));
        Assert.Equal("[]\n", _bench.Human("qom-get /objects/more host-nodes"));
    }
}
