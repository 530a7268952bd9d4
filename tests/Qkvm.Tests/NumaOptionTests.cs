using Qkvm.Cli;
using Qkvm.Core.Machine;

namespace Qkvm.Tests;

/// <summary>-numa and -smp: what QEMU 7.2 makes of the same lines, and how it refuses others.</summary>
public class NumaOptionTests
{
    const string Two = "-m 128 -object memory-backend-ram,id=r0,size=64M -object memory-backend-ram,id=r1,size=64M ",
        Nodes = Two + "-numa node,memdev=r0 -numa node,memdev=r1 ",
        Told = Two + "-M pc,hmat=on -smp 2 -numa node,memdev=r0,cpus=0-1 -numa node,memdev=r1,initiator=0 ",
        Latency = "-numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=",
        Bandwidth = "-numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=",
        Cache = ",associativity=direct,policy=write-back,line=8 ";

    readonly List<string> _warnings = [];

    MachineConfig Expand(string line) =>
        Expander.Expand(CommandLineParser.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)), "qkvm",
            _warnings.Add);

    [Theory]
    [InlineData("", "0:67108864:r0 1:67108864:r1", "0")]
    [InlineData("-smp 4,sockets=2,cores=2,threads=1", "0:67108864:r0 1:67108864:r1", "0 0 1 1")]
    [InlineData("-smp 4 -numa cpu,node-id=1", "0:67108864:r0 1:67108864:r1", "1 1 1 1")]
    [InlineData("-smp 4,sockets=2,cores=2,threads=1 -numa cpu,node-id=1,socket-id=0 -numa "
        + "cpu,node-id=0,socket-id=1,core-id=0 -numa cpu,node-id=1,socket-id=1,core-id=1,thread-id=0",
        "0:67108864:r0 1:67108864:r1", "1 1 0 1")]
    public void Nodes_have_memory_and_processors(string rest, string nodes, string cpus)
    {
        NumaConfig numa = Expand(Nodes + rest).Numa;
        Assert.Equal(nodes, string.Join(' ', numa.Nodes.Select((node, i) => $"{i}:{node.Size}:{node.Backend}")));
        Assert.Equal(cpus, string.Join(' ', numa.CpuNodes));
        Assert.Empty(_warnings);
    }

    [Theory]
    [InlineData("-numa node,cpus=0,cpus=2,memdev=r0 -numa node,cpus=1,cpus=3,memdev=r1")]
    [InlineData("-numa node,nodeid=1,cpus.0=1,cpus.1=3,memdev=r1 -numa node,nodeid=0,cpus=0,cpus=2,memdev=r0")]
    [InlineData("-numa {'type':'node','memdev':'r0','cpus':[0,2]} -numa {'type':'node','memdev':'r1','cpus':[1,3]}")]
    public void Processors_are_listed_in_several_ways(string nodes) =>
        Assert.Equal([0, 1, 0, 1], Expand($"{Two} -smp 4 {nodes}").Numa.CpuNodes);

    [Fact]
    public void Processors_that_nobody_names_are_of_node_0_with_a_warning()
    {
        NumaConfig numa =
            Expand($"{Two} -smp 4,sockets=2,cores=2 -numa node,memdev=r0 -numa node,memdev=r1,cpus=0-1").Numa;
        Assert.Equal([1, 1, 0, 0], numa.CpuNodes);
        Assert.Equal("CPU(s) not present in any NUMA nodes: CPU 2 [socket-id: 1, core-id: 0, thread-id: 0], "
            + "CPU 3 [socket-id: 1, core-id: 1, thread-id: 0]", _warnings[0]);
        Assert.Equal(2, _warnings.Count);
    }

    [Fact]
    public void Old_machines_divide_their_memory_by_sizes()
    {
        NumaConfig numa = Expand("-M pc-i440fx-5.0 -m 128 -numa node,mem=96 -numa node,mem=32M").Numa;
        Assert.Equal([(96UL << 20, (string?)null), (32UL << 20, null)], numa.Nodes.Select(n => (n.Size, n.Backend)));
        Assert.Contains("Parameter -numa node,mem is deprecated, use -numa node,memdev instead", _warnings[0]);
    }

    [Fact]
    public void Memory_that_may_come_makes_one_node()
    {
        Assert.Equal([128UL << 20], Expand("-m 128,slots=2,maxmem=1G").Numa.Nodes.Select(node => node.Size));
        Assert.Empty(Expand("-m 128").Numa.Nodes);
    }

    [Theory]
    [InlineData("-numa dist,src=0,dst=1,val=20", "10 20/20 10")]
    [InlineData("-numa dist,src=1,dst=0,val=255 -numa dist,src=0,dst=0,val=10", "10 255/255 10")]
    [InlineData("-numa dist,src=0,dst=1,val=20 -numa dist,src=1,dst=0,val=30", "10 20/30 10")]
    [InlineData("", "")]
    public void Distances_are_completed(string options, string rows) => Assert.Equal(rows,
        string.Join('/', Expand(Nodes + options).Numa.Distances.Select(row => string.Join(' ', row))));

    [Theory]
    [InlineData("-m 128 -numa node -numa node",
        "total memory for NUMA nodes (0x0) should equal RAM size (0x8000000)")]
    [InlineData("-m 128 -numa node,mem=64M", "Parameter -numa node,mem is not supported by this machine type")]
    [InlineData(Two + "-M pc-i440fx-5.0 -numa node,mem=64M -numa node,memdev=r0",
        "numa configuration should use either mem= or memdev=, mixing both is not allowed")]
    [InlineData(Two + "-numa node,memdev=r0 -numa node,memdev=r0", "memory backend r0 can't be used multiple times")]
    [InlineData(Two + "-numa node,memdev=r0 -numa node,memdev=rx", "memdev=rx: there is no such memory")]
    [InlineData(Two + "-numa node,nodeid=0,memdev=r0 -numa node,nodeid=0,memdev=r1", "Duplicate NUMA nodeid: 0")]
    [InlineData(Two + "-numa node,memdev=r0 -numa node,nodeid=2,memdev=r1", "Node ID missing: 1")]
    [InlineData(Two + "-numa node,nodeid=128,memdev=r0", "Max number of NUMA nodes reached: 128")]
    [InlineData(Two + "-smp 4 -numa node,cpus=0-1,memdev=r0 -numa node,cpus=1-3,memdev=r1",
        "CPU is already assigned to node-id: 0")]
    [InlineData(Two + "-smp 4 -numa node,cpus=2-4,memdev=r0", "CPU index (4) should be smaller than maxcpus (4)")]
    [InlineData(Two + "-numa node,cpus=3-2,memdev=r0", "Parameter 'cpus' expects a number or a range")]
    [InlineData(Two + "-numa foo", "Parameter 'type' does not accept value 'foo'")]
    [InlineData(Two + "-numa nodeid=0", "needs type=")]
    [InlineData(Nodes + "-numa node,foo=1", "invalid parameter 'foo'")]
    [InlineData(Nodes + "-numa cpu,socket-id=0", "Missing mandatory node-id property")]
    [InlineData(Nodes + "-numa cpu,node-id=5,socket-id=0", "Invalid node-id=5, NUMA node must be defined")]
    [InlineData(Nodes + "-numa cpu,node-id=1,socket-id=2", "no match found")]
    [InlineData(Nodes + "-numa cpu,node-id=1,die-id=1", "die-id is not supported")]
    [InlineData(Nodes + "-numa cpu,node-id=0 -numa cpu,node-id=1,core-id=0", "CPU is already assigned to node-id: 0")]
    [InlineData(Nodes + "-numa dist,src=0,dst=0,val=10", "The distance between node 0 and 1 is missing, at least one "
        + "distance value between each nodes should be provided.")]
    [InlineData(Nodes + "-numa dist,src=0,dst=0,val=20", "Local distance of node 0 should be 10.")]
    [InlineData(Nodes + "-numa dist,src=0,dst=1,val=9", "NUMA distance (9) is invalid, it shouldn't be less than 10.")]
    [InlineData(Nodes + "-numa dist,src=0,dst=2,val=20", "Source/Destination NUMA node is missing.")]
    [InlineData(Nodes + "-numa dist,src=0,dst=200,val=20", "dst=200: expects a number from 0 to 127")]
    [InlineData(Nodes + "-M none", "NUMA is not supported by this machine-type")]
    [InlineData(Nodes + "-M memory-backend=r0", "cannot be used together with -machine memory-backend=r0")]
    [InlineData(Two + "-numa node,memdev=r0,initiator=0",
        "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on")]
    [InlineData(Told + "-numa node,initiator=7", "NUMA node 7 is missing, use '-numa node' option to declare it first")]
    [InlineData(Told + "-numa node,initiator=1", "The initiator of NUMA node 2 is invalid")]
    [InlineData(Told + "-numa node,cpus=0,initiator=1",
        "The initiator of CPU NUMA node 2 should be itself (got 1)")]
    [InlineData(Told + Latency + "10 " + Latency + "20", "Duplicate configuration of the latency for initiator=0 and "
        + "target=0")]
    [InlineData(Told + Latency + "10,bandwidth=10M", "Invalid option 'bandwidth' since the data type is latency")]
    [InlineData(Told + Bandwidth + "10", "Bandwidth 10 between initiator=0 and target=0 should be 1MB aligned")]
    [InlineData(Told + "-numa hmat-lb,initiator=1,target=0,hierarchy=memory,data-type=access-latency,latency=1",
        "Invalid initiator=1, it isn't an initiator proximity domain")]
    [InlineData(Told + "-numa hmat-lb,initiator=0,target=2,hierarchy=memory,data-type=access-latency,latency=1",
        "The target=2 should point to an existing node")]
    [InlineData(Told + "-numa hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-latency",
        "Missing 'latency' option")]
    [InlineData(Told + Latency + "1 -numa hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-latency,"
        + "latency=65535", "should not differ from previously entered values on more than 65534")]
    [InlineData(Told + "-numa hmat-cache,node-id=0,size=10K,level=1" + Cache,
        "The latency and bandwidth information of node-id=0 should be provided before memory side cache attributes")]
    [InlineData(Told + Latency + "1 " + Bandwidth + "1M -numa hmat-cache,node-id=0,size=10K,level=4" + Cache,
        "Invalid level=4, it should be larger than 0 and less than or equal to 3")]
    [InlineData(Told + Latency + "1 " + Bandwidth + "1M -numa hmat-cache,node-id=0,size=10K,level=2" + Cache,
        "Cache level=1 shall be defined first")]
    [InlineData(Told + Latency + "1 " + Bandwidth + "1M -numa hmat-cache,node-id=0,size=10K,level=1" + Cache
        + "-numa hmat-cache,node-id=0,size=5K,level=2" + Cache,
        "Invalid size=5120, the size of level=2 should be larger than the size(10240) of level=1")]
    [InlineData("-overcommit cpu-pm=on -accel kvm", "cpu-pm=on is not built yet under KVM")]
    public void What_cannot_be_is_refused(string line, string message) =>
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => Expand(line)).Message);

    /// <summary>Latencies count in powers of ten nanoseconds, bandwidths in powers of two megabytes.</summary>
    [Theory]
    [InlineData(MemorySpeedKind.AccessLatency, 10, 25, 1)]
    [InlineData(MemorySpeedKind.AccessLatency, 100, 1500, 100)]
    [InlineData(MemorySpeedKind.WriteLatency, 0, 0, 1)]
    [InlineData(MemorySpeedKind.AccessBandwidth, 10 << 20, 6 << 20, 2 << 20)]
    public void Speeds_have_a_unit(MemorySpeedKind kind, ulong first, ulong second, ulong unit) => Assert.Equal(unit,
        new MemorySpeed(MemoryHierarchy.Memory, kind, [(0, 0, first), (0, 1, second)]).Unit);

    /// <summary>QEMU 7.2's, by info hotpluggable-cpus: sockets, dies, cores, threads, processors, all that there can
    /// be.</summary>
    [Theory]
    [InlineData("4", "1 1 4 1 4 4")]
    [InlineData("4,maxcpus=8", "1 1 8 1 4 8")]
    [InlineData("4,sockets=2", "2 1 2 1 4 4")]
    [InlineData("4,cores=2", "2 1 2 1 4 4")]
    [InlineData("4,threads=2", "1 1 2 2 4 4")]
    [InlineData("8,sockets=2,cores=2", "2 1 2 2 8 8")]
    [InlineData("maxcpus=4", "1 1 4 1 4 4")]
    [InlineData("sockets=2,cores=2", "2 1 2 1 4 4")]
    [InlineData("2,sockets=2,maxcpus=8,dies=2", "2 2 2 1 2 8")]
    [InlineData("4,sockets=0", "1 1 4 1 4 4")]
    [InlineData("4,sockets=2,cores=2,threads=2,maxcpus=8", "2 1 2 2 4 8")]
    public void A_topology_is_completed(string smp, string expected)
    {
        CpuTopology cpus = Expand($"-smp {smp}").Topology;
        Assert.Equal(expected, $"{cpus.Sockets} {cpus.Dies} {cpus.Cores} {cpus.Threads} {cpus.Cpus} {cpus.MaxCpus}");
        Assert.Equal(smp.Contains("=0", StringComparison.Ordinal) ? 1 : 0, _warnings.Count);
    }

    [Theory]
    [InlineData("4,sockets=2,cores=2,threads=1,maxcpus=8", "product of the hierarchy must match maxcpus: sockets (2) * "
        + "dies (1) * cores (2) * threads (1) != maxcpus (8)")]
    [InlineData("4,sockets=2,cores=4", "sockets (2) * dies (1) * cores (4) * threads (0) != maxcpus (4)")]
    [InlineData("2,cores=4", "sockets (0) * dies (1) * cores (4) * threads (1) != maxcpus (2)")]
    [InlineData("9,maxcpus=8", "maxcpus must be equal to or greater than smp: sockets (1) * dies (1) * cores (8) * "
        + "threads (1) == maxcpus (8) < smp_cpus (9)")]
    [InlineData("4,clusters=2", "clusters not supported by this machine's CPU topology")]
    [InlineData("300", "Invalid SMP CPUs 300. The max CPUs supported by machine 'pc-i440fx-7.2' is 255")]
    public void A_topology_that_cannot_be_is_refused(string smp, string message) =>
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => Expand($"-smp {smp}")).Message);
}
