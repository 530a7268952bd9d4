using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>A card whose rings a backend's peer serves: here the test is the peer.</summary>
public sealed class VhostNetTests : IDisposable
{
    const int Receive = 0, Transmit = 1, Control = 4;
    const ulong Data = 0x200000, Command = 0x210000, Answer = 0x211000;
    const ulong Csum = 1, MrgRxBuf = 1 << 15, CtrlVq = 1 << 17, Mq = 1 << 22, CtrlGuestOffloads = 1 << 2;
    const uint Status = 6;

    readonly PciBench _bench = new();
    readonly WatchingLoop _loop = new();
    readonly Peer _peer = new();
    readonly VirtioNet _card;
    readonly VirtioGuest _guest;

    public VhostNetTests()
    {
        _card = new VirtioNet("net", new Backend(_peer), [2, 0, 0, 0, 0, 1], new VirtioNetOptions { Pairs = 2 }, _loop,
            _bench.Pump.Post);
        _guest = new VirtioGuest(_bench, _card, new VirtioPciOptions(0x00FF00, 6, Packed: true));
    }

    public void Dispose() => _bench.Dispose();

    void Start(ulong features = ulong.MaxValue, bool vectors = false)
    {
        _guest.Start(features, vectors);
        _bench.Pump.RunPosted();
    }

    [Fact]
    public void It_offers_what_the_peer_knows_and_what_is_done_here()
    {
        const ulong asked = Csum | MrgRxBuf | CtrlVq | Mq | CtrlGuestOffloads | VirtioFeatures.RingPacked
            | VirtioFeatures.EventIndex | VirtioFeatures.Version1;
        Assert.Equal(MrgRxBuf | CtrlVq | Mq | VirtioFeatures.EventIndex | VirtioFeatures.Version1,
            _guest.Offered & asked);
    }

    [Fact]
    public void The_peer_gets_the_rings_of_all_pairs_and_the_drivers_features()
    {
        Start();
        Assert.Equal([0, 1, 2, 3], _peer.Rings.Keys);
        VhostRing ring = _peer.Rings[Transmit];
        GuestQueue queue = _guest.Queues[Transmit];
        Assert.Equal((queue.Size, queue.Descriptors, queue.Available, queue.Used, 0u),
            (ring.Size, ring.Descriptors, ring.DriverArea, ring.DeviceArea, ring.Position));
        Assert.Equal(_card.Control.Features, _peer.Started);
        Assert.Equal(1, _peer.Pairs);
    }

    [Fact]
    public void A_kick_reaches_the_peer_on_the_drivers_thread_and_its_call_the_driver()
    {
        Start(vectors: true);
        VhostRing ring = _peer.Rings[Transmit];
        ring.Kick.Clear();                                         // that of the start
        Assert.False(ring.Kick.Wait(0));
        _guest.Request(Transmit, (Data, 72));
        Assert.True(ring.Kick.Wait(0));
        Assert.Empty(_bench.Messages);
        _loop.Call(ring.Call);
        Assert.Equal(Transmit + 1u, Assert.Single(_bench.Messages).Data);
    }

    [Fact]
    public void The_control_queue_stays_here_wherever_it_is()
    {
        Start();
        SetMac(Control, 2);
        Start(~Mq);                                                // it is where the second pair would be
        Assert.Equal([0, 1], _peer.Rings.Keys);
        SetMac(2, 4);
    }

    void SetMac(int queue, byte first)
    {
        _bench.Memory.Space.Write(Command, [1, 1, first, 1, 1, 1, 1, 1]);
        _guest.Request(queue, (Command, 8), (Answer, -1));
        _bench.Pump.RunPosted();
        Assert.Equal(first, _card.CurrentMac[0]);
        Assert.NotNull(_guest.Queues[queue].TakeUsed());
    }

    [Fact]
    public void A_command_changes_the_pairs_of_the_peer()
    {
        Start();
        _bench.Memory.Space.Write(Command, [4, 0, 2, 0]);
        _guest.Request(Control, (Command, 4), (Answer, -1));
        _bench.Pump.RunPosted();
        Assert.Equal(2, _peer.Pairs);
    }

    [Fact]
    public void A_reset_waits_until_the_peer_leaves_the_rings()
    {
        Start();
        _peer.IsSlow = true;
        _guest.Status = 0;
        Assert.NotEqual(0, _guest.Status);
        Assert.True(_card.Control.IsResetting);
        _peer.End();
        Assert.True(SpinWait.SpinUntil(() =>
        {
            _bench.Pump.RunPosted();
            return _guest.Status == 0;
        }, TimeSpan.FromMinutes(1)));
        Assert.Empty(_peer.Rings);
    }

    [Fact]
    public void The_link_is_that_of_the_peer()
    {
        Start();
        Assert.Equal(1u, _guest.Config(Status, 2) & 1);
        _peer.Show(isConnected: false);
        _bench.Pump.RunPosted();
        Assert.Equal(2, _guest.Isr);
        Assert.Equal(0u, _guest.Config(Status, 2) & 1);
        _peer.Show(isConnected: true);
        Assert.Equal(1u, _guest.Config(Status, 2) & 1);
    }

    [Fact]
    public void A_ring_that_is_lost_needs_a_reset()
    {
        Start();
        _peer.Lose();
        _bench.Pump.RunPosted();
        Assert.True(_card.Control.IsBroken);
    }

    [Fact]
    public void The_state_of_rings_that_are_elsewhere_is_not_saved()
    {
        StateNode.Save(_card.Control.Exchange);
        Start();
        Assert.Throws<InvalidStateException>(() => StateNode.Save(_card.Control.Exchange));
    }

    sealed class Backend(Peer peer) : NetBackend("vhost0")
    {
        public override string Description => "vhost";
        public override int MaxQueues => 2;
        public override IVhostNet Vhost => peer;
        public override NetOffloads Takes => NetOffloads.Checksum;
        public override NetOffloads Gives => NetOffloads.Checksum;
        public override INetQueue Open(int index, INetPort port, IoLoop loop) => throw new NotSupportedException();
    }

    sealed class Peer : IVhostNet
    {
        readonly List<TaskCompletionSource> _stopping = [];

        public ulong Features => MrgRxBuf | VirtioFeatures.EventIndex | VirtioFeatures.Version1;
        public bool IsConnected { get; private set; } = true;
        public event Action? Changed;
        public event Action<string>? Failed;
        public SortedDictionary<int, VhostRing> Rings { get; } = [];
        public ulong Started { get; private set; }
        public int Pairs { get; private set; }

        public void Start(ulong features, IReadOnlyList<VhostRegion> memory) => Started = features;
        public void StartRing(VhostRing ring) => Rings[ring.Index] = ring;
        public void SetMemory(IReadOnlyList<VhostRegion> memory) { }
        public void SetPairs(int pairs) => Pairs = pairs;

        public Task StopRingAsync(int index)
        {
            Rings.Remove(index);
            if (!IsSlow) return Task.CompletedTask;
            _stopping.Add(new TaskCompletionSource());
            return _stopping[^1].Task;
        }

        public bool IsSlow { get; set; }

        public void End() => _stopping.ForEach(one => one.SetResult());

        public void Show(bool isConnected)
        {
            IsConnected = isConnected;
            Changed?.Invoke();
        }

        public void Lose() => Failed?.Invoke("gone");
    }
}
