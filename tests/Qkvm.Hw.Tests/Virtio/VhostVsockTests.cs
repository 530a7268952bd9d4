using Qkvm.Core.Configuration;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Sockets by the host's kernel: here the test is the kernel.</summary>
public sealed class VhostVsockTests : IDisposable
{
    const ulong SeqPacket = 2;

    readonly PciBench _bench = new();
    readonly WatchingLoop _loop = new();
    readonly Kernel _kernel = new();

    public void Dispose() => _bench.Dispose();

    VirtioGuest Plug(ulong features = 0) => new(_bench, new VirtioPci("vsock",
        new VhostVsock("vsock", _kernel, 77, features, _loop), new VirtioPciOptions(0x078000, 3, Legacy: false)));

    [Fact]
    public void The_kernel_learns_of_the_rings_by_their_places_here()
    {
        VirtioGuest guest = Plug(SeqPacket);
        Assert.Equal((77ul, 77ul), (guest.Config(0, 8), _kernel.Cid));
        Assert.Equal(0x1053, guest.Function.Config.Get16(2));
        guest.Start();
        Assert.Equal(SeqPacket | VirtioFeatures.Version1 | VirtioFeatures.EventIndex, _kernel.Given);
        VhostMemory memory = Assert.Single(_kernel.Memory);
        Assert.Equal((0ul, TestMemory.RamSize, _bench.Memory.Ram.HostAddress),
            (memory.Address, memory.Size, memory.HostAddress));
        ulong host = _bench.Memory.Ram.HostAddress;
        Assert.Equal([0, 1], _kernel.Rings.Keys);                  // events are nobody's
        GuestQueue queue = guest.Queues[1];
        Assert.Equal(new VhostRingPlaces(host + queue.Descriptors, host + queue.Available, host + queue.Used),
            _kernel.Rings[1]);
        Assert.Equal(["ring 0", "ring 1", "run"], _kernel.Log);    // it looks at both when it begins
    }

    [Fact]
    public void A_kick_reaches_the_kernel_and_its_call_the_driver()
    {
        VirtioGuest guest = Plug();
        guest.Start(vectors: true);
        (WakeEvent call, WakeEvent kick) = _kernel.Signals[1];
        kick.Clear();
        guest.Request(1, (0x200000, 44));
        Assert.True(kick.Wait(0));
        _loop.Call(call);
        Assert.Equal(2u, Assert.Single(_bench.Messages).Data);
    }

    [Fact]
    public void A_reset_stops_it_before_the_rings_go_and_a_driver_can_begin_anew()
    {
        VirtioGuest guest = Plug();
        guest.Start();
        guest.Status = 0;
        Assert.Equal(0, guest.Status);
        Assert.Equal("stop", _kernel.Log[^1]);
        guest.Start();
        Assert.Equal(["stop", "ring 0", "ring 1", "run"], _kernel.Log[^4..]);
    }

    [Fact]
    public void What_the_kernel_refuses_is_the_drivers_mistake()
    {
        VirtioGuest guest = Plug();
        _kernel.Refuses = true;
        guest.Start();
        Assert.Equal(0x4F, guest.Status);
        _kernel.Refuses = false;
        guest.Start();
        Assert.Equal(15, guest.Status);
    }

    [Fact]
    public void A_ring_outside_memory_has_no_place()
    {
        using var kernel = new VhostKernel(_kernel, 2, _kernel.SetVsockRunning);
        kernel.Start(0, VhostRegion.Of(_bench.Memory.Space.View, onlyShared: false));
        using WakeEvent kick = new(), call = new();
        kernel.StartRing(new VhostRing(0, 8, TestMemory.HoleAddress, ulong.MaxValue, TestMemory.RamSize, 0,
            static () => null, kick, call));
        Assert.Equal(new VhostRingPlaces(0, 0, 0), _kernel.Rings[0]);
    }

    [Theory]
    [InlineData("0", "guest-cid property must be greater than 2")]
    [InlineData("2", "guest-cid property must be greater than 2")]
    [InlineData("4294967295", "guest-cid property must be a 32-bit number")]
    [InlineData("4294967296", "guest-cid property must be a 32-bit number")]
    public void Addresses_that_are_nobodys_or_the_hosts_are_refused(string cid, string message) =>
        Assert.Contains(message, Refusal(("guest-cid", cid)));

    [Fact]
    public void A_descriptor_that_is_no_vhost_device_is_refused()
    {
        Assert.Contains("vhost-vsock: unable to set non-blocking mode", Refusal(("guest-cid", "3"),
            ("vhostfd", "10000")));
        using MemoryFile file = MemoryFile.Create("other", isShared: false);
        Assert.Contains("vhost-vsock: unable to become the owner", Refusal(("guest-cid", "3"),
            ("vhostfd", $"{file.Fd}")));
    }

    string Refusal(params (string, string)[] given) => Assert.Throws<ConfigurationException>(() =>
        VhostVsock.Models[0].Create(FakeBoard.Defaults(VhostVsock.Models[0], given),
            new FakeBoard(new DeviceBench(_bench.Clock)).Site)).Message;

    sealed class Kernel : IVhostFile
    {
        public ulong Features => SeqPacket | VirtioFeatures.Version1 | VirtioFeatures.EventIndex;
        public ulong Given { get; private set; }
        public ulong Cid { get; private set; }
        public VhostMemory[] Memory { get; private set; } = [];
        public SortedDictionary<int, VhostRingPlaces> Rings { get; } = [];
        public Dictionary<int, (WakeEvent Call, WakeEvent Kick)> Signals { get; } = [];
        public List<string> Log { get; } = [];
        public bool Refuses { get; set; }

        public void SetFeatures(ulong features) => Given = features;
        public void SetMemory(ReadOnlySpan<VhostMemory> memory) => Memory = memory.ToArray();

        public void SetRing(int ring, int size, uint position, VhostRingPlaces places)
        {
            if (Refuses) throw new HostException("unable", Libc.EInval);
            Log.Add($"ring {ring}");
            Rings[ring] = places;
        }

        public void SetSignals(int ring, WakeEvent call, WakeEvent kick) => Signals[ring] = (call, kick);
        public void SetGuestCid(ulong cid) => Cid = cid;
        public void SetVsockRunning(bool isRunning) => Log.Add(isRunning ? "run" : "stop");
        public void Dispose() => Log.Add("closed");
    }
}
