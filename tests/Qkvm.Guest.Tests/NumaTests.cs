namespace Qkvm.Guest.Tests;

/// <summary>Linux sees the nodes that -numa makes, and of which node what comes is.</summary>
public sealed class NumaTests
{
    [CardsTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void Linux_sees_nodes_of_processors_and_memory_and_what_comes_to_them(string machine)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = GuestProcess.Start(["-accel", "tcg", "-machine", $"{machine},hmat=on", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-monitor", $"unix:{socket},server=on,wait=off",
            "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
            "-append", "console=ttyS0 quiet panic=-1", "-m", "512M,slots=2,maxmem=2G", "-smp", "2,maxcpus=3,cores=3",
            "-object", "memory-backend-ram,id=first,size=192M", "-object", "memory-backend-memfd,id=second,size=320M",
            "-numa", "node,nodeid=0,memdev=first,cpus=0", "-numa", "node,nodeid=1,memdev=second,cpus=1-2",
            "-numa", "dist,src=0,dst=1,val=31",
            "-numa", "hmat-lb,initiator=1,target=1,hierarchy=memory,data-type=access-latency,latency=70"]);
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(socket);
        guest.Send("cd /sys/devices/system/node; "
            + "echo NODES $(cat online) CPUS $(cat node0/cpulist) $(cat node1/cpulist) "
            + "FAR $(cat node0/distance) $(cat node1/distance) FAST $(cat node1/access0/initiators/read_latency)\n");
        Assert.Equal("0-1 CPUS 0 1 FAR 10 31 31 10 FAST 70",
            guest.Value("NODES", @"[0-9-]+ CPUS \d \d FAR [0-9 ]+ FAST \d+"));
        guest.Send("total() { sed -n 's/^.*MemTotal: *\\([0-9]*\\) kB/\\1/p' $1/meminfo; }; "
            + "echo SECOND $(dmesg | sed -n 's/.*SRAT: Node 1 PXM 1 .mem \\([0-9a-fx-]*\\).*/\\1/p' | paste -sd,)\n");
        string[] ranges = guest.Value("SECOND", "[0-9a-fx,-]+").Split(',');
        Assert.Equal("0x0c000000-0x1fffffff", ranges[0]);
        Assert.Equal(2, ranges.Length);                            // and where memory may come

        Assert.Equal("", monitor.Run("device_add qemu64-x86_64-cpu,socket-id=0,core-id=2,thread-id=0"));
        guest.Send("while [ ! -e /sys/devices/system/cpu/cpu2/online ]; do sleep 0.1; done; "
            + "echo 1 >/sys/devices/system/cpu/cpu2/online; echo NOW $(cat node1/cpulist)\n");
        Assert.Equal("1-2", guest.Value("NOW", "[0-9-]+"));
        Assert.Equal("", monitor.Run("object_add memory-backend-ram,id=more,size=256M"));
        Assert.Equal("", monitor.Run("device_add pc-dimm,memdev=more,node=0"));
        guest.Send("before=$(total node0); while ! grep -q offline node0/memory*/state; do sleep 0.1; done; "
            + "while grep -q offline node0/memory*/state; do for i in node0/memory*; do "
            + "echo online_movable >$i/state; done; sleep 0.1; done 2>/dev/null; "
            + "echo CAME $((($(total node0) - before) >> 10))\n");
        Assert.Equal("256", guest.Value("CAME", @"\d+"));
        Assert.Contains("node 0 size: 448 MB", monitor.Run("info numa"), StringComparison.Ordinal);
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
