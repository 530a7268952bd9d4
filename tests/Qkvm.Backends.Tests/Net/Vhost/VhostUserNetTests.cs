using System.Buffers.Binary;
using Qkvm.Backends.Char;
using Qkvm.Backends.Net;
using Qkvm.Backends.Vhost;
using Qkvm.Core;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Net.Vhost;

/// <summary>-netdev vhost-user with a back-end that echoes, and with some that lie.</summary>
public sealed class VhostUserNetTests : VhostUserBench
{
    const int Receive = 0, Transmit = 1, Size = 8;
    const ulong Data = 0x40000, ReceiveRing = 0x10000, TransmitRing = 0x20000;

    readonly GuestQueue _receive, _transmit;
    int _calls;

    public VhostUserNetTests()
    {
        _receive = new GuestQueue(Memory.Space, ReceiveRing, Size);
        _transmit = new GuestQueue(Memory.Space, TransmitRing, Size);
    }

    VhostUserNet Open(string options = "", bool hasPeer = true)
    {
        Chardev(hasPeer);
        VhostUserNet net = Loop.Do(() => (VhostUserNet)VhostUserNet.Model.Create(new Properties(VhostUserNet.Model,
            Options.Parse($"id=n,chardev=c{options}", "-netdev vhost-user,id=n")), Host));
        Served = net;
        return net;
    }

    VhostRing RingOf(int index)
    {
        GuestQueue queue = index == Receive ? _receive : _transmit;
        VhostRing ring = RingOf(index, Size, queue.Descriptors, queue.Available, queue.Used,
            () => queue.UsedIndex);
        if (index == Receive)
            Loop.Do(() => Loop.Loop.Watch(ring.Call.Fd, FdEvents.Readable, _ =>
            {
                ring.Call.Clear();
                Interlocked.Increment(ref _calls);
            }));
        return ring;
    }

    (VhostRing Receive, VhostRing Transmit) Start(VhostUserNet net)
    {
        net.Start(1UL << 32, VhostRegion.Of(Memory.Space.View));
        (VhostRing Receive, VhostRing Transmit) rings = (RingOf(Receive), RingOf(Transmit));
        net.StartRing(rings.Receive);
        net.StartRing(rings.Transmit);
        return rings;
    }

    static void Stop(VhostUserNet net, int ring) => Ends(net.StopRingAsync(ring));

    void SendsAndReceives((VhostRing Receive, VhostRing Transmit) rings, byte mark)
    {
        byte[] frame = [.. new byte[12], .. Enumerable.Repeat(mark, 60)];
        Memory.Space.Write(Data, frame);
        _receive.Add((Data + 0x1000, -1526));
        _transmit.Add((Data, frame.Length));
        rings.Transmit.Kick.Set();
        (uint Id, uint Written)? used = null;
        Assert.True(Wait(() => (used ??= _receive.TakeUsed()) != null));
        Assert.Equal(72u, used!.Value.Written);
        Assert.Equal(frame, Memory.Bytes(Data + 0x1000, 72));
        Assert.True(Wait(() => _transmit.TakeUsed() != null));
    }

    [Fact]
    public void A_peer_serves_the_rings_and_leaves_them_alone_again()
    {
        using var peer = new EchoPeer(SocketPath).Start();
        VhostUserNet net = Open();
        Assert.Equal(1UL << 32, net.Features);
        Assert.True(net.IsConnected);
        Assert.Equal("index=0,type=vhost-user,vhost-user0 to c", net.Description);
        var rings = Start(net);
        for (byte i = 1; i < 20; i++) SendsAndReceives(rings, i);
        Assert.True(Wait(() => Volatile.Read(ref _calls) > 0));
        Stop(net, Receive);
        Stop(net, Transmit);
        Assert.True(net.IsConnected);
        lock (peer.Heard)
        {
            Assert.Equal([VhostUserRequest.GetFeatures, VhostUserRequest.GetProtocolFeatures,
                VhostUserRequest.SetProtocolFeatures, VhostUserRequest.GetQueueNum, VhostUserRequest.SetOwner,
                VhostUserRequest.SetFeatures, VhostUserRequest.SetMemTable, VhostUserRequest.SetVringNum],
                peer.Heard.Take(8).Select(heard => heard.Request));
            Assert.Equal(1UL << 32 | 1UL << 30, BinaryPrimitives.ReadUInt64LittleEndian(peer.Heard[5].Payload));
            Assert.Equal(2, peer.Heard.Count(heard => heard.Request == VhostUserRequest.GetVringBase));
        }
    }

    [Fact]
    public void A_peer_without_protocol_features_is_asked_for_none()
    {
        using var peer = new EchoPeer(SocketPath) { Features = 1UL << 32 }.Start();
        VhostUserNet net = Open();
        Start(net);
        Stop(net, Transmit);
        lock (peer.Heard)
            Assert.DoesNotContain(peer.Heard, heard => heard.Request is VhostUserRequest.GetProtocolFeatures
                or VhostUserRequest.SetVringEnable or VhostUserRequest.GetQueueNum);
    }

    [Fact]
    public void A_second_peer_goes_on_where_the_first_was_lost()
    {
        VhostUserNet net;
        (VhostRing Receive, VhostRing Transmit) rings;
        using (new EchoPeer(SocketPath).Start())
        {
            net = Open();
            rings = Start(net);
            for (byte i = 1; i < 12; i++) SendsAndReceives(rings, i);
        }
        Assert.True(Wait(() => !net.IsConnected));
        using var next = new EchoPeer(SocketPath).Start();
        SendsAndReceives(rings, 99);
        Assert.True(Wait(() => net.IsConnected));
        Assert.Contains("the peer has gone", Loop.Do(() => Assert.Single(Host.Warnings)));
        lock (next.Heard)
            Assert.Contains(next.Heard, heard => heard.Request == VhostUserRequest.SetVringBase
                && heard.Payload.SequenceEqual(new byte[] { 1, 0, 0, 0, 11, 0, 0, 0 }));
    }

    [Fact]
    public void A_second_peer_that_knows_less_is_not_taken()
    {
        VhostUserNet net;
        using (new EchoPeer(SocketPath) { Features = 1UL << 32 | 1UL << 30 | 1 << 15 }.Start())
        {
            net = Open();
            net.Start(1UL << 32 | 1 << 15, VhostRegion.Of(Memory.Space.View));
            Stop(net, 0);
        }
        Assert.True(Wait(() => !net.IsConnected));
        using var next = new EchoPeer(SocketPath).Start();
        Assert.True(Wait(() => Loop.Do(() => Host.Warnings.Count) == 2));
        Assert.Contains("lacks features 8000", Host.Warnings[1]);
        Assert.False(net.IsConnected);
    }

    [Fact]
    public void More_queues_than_the_peer_has_are_refused()
    {
        using var peer = new EchoPeer(SocketPath) { Queues = 2 }.Start();
        var error = Assert.Throws<ConfigurationException>(() => Open(",queues=3"));
        Assert.EndsWith("you are asking more queues than supported: 2", error.Message);
        Assert.Null(Host.Backends.OwnerOfChardev("c"));
    }

    [Fact]
    public void A_machine_that_runs_does_not_wait_for_a_peer()
    {
        var error = Assert.Throws<ConfigurationException>(() => Open(hasPeer: false));
        Assert.Contains("chardev \"c\" has no peer yet", error.Message);
    }

    [Fact]
    public void A_chardev_that_is_no_socket_is_refused()
    {
        Host.Backends.Chardevs["c"] = new FakeChar();
        var error = Assert.Throws<ConfigurationException>(() => VhostUserNet.Model.Create(
            new Properties(VhostUserNet.Model, Options.Parse("id=n,chardev=c", "-netdev vhost-user,id=n")), Host));
        Assert.Contains("chardev \"c\" is not a unix socket", error.Message);
    }

    [Fact]
    public void Cards_without_rings_cannot_use_it()
    {
        using var peer = new EchoPeer(SocketPath).Start();
        VhostUserNet net = Open();
        var error = Assert.Throws<ConfigurationException>(() => net.Open(0, null!, Loop.Loop));
        Assert.Contains("requires frontend driver virtio-net", error.Message);
    }

    [Fact]
    public void Only_shared_memory_is_given_away()
    {
        Assert.True(VhostRegion.IsShared(Memory.Space.View));
        VhostRegion region = Assert.Single(VhostRegion.Of(Memory.Space.View));
        Assert.Equal((0ul, TestMemory.RamSize, 0ul), (region.Address, region.Size, region.Offset));
        using var alone = new TestMemory();
        Assert.False(VhostRegion.IsShared(alone.Space.View));
        Assert.Empty(VhostRegion.Of(alone.Space.View));
    }

    public static TheoryData<string> Lies => new(Answers.Keys);

    static readonly Dictionary<string, Func<VhostUserRequest, byte[]?>> Answers = new()
    {
        ["another request"] = r => EchoPeer.Reply(r + 1, 0),
        ["no reply flag"] = r => EchoPeer.Reply(r, 0, flags: 1),
        ["another version"] = r => EchoPeer.Reply(r, 0, flags: 6),
        ["a length of 4 GiB"] = r => EchoPeer.Reply(r, 0, size: uint.MaxValue),
        ["a length of nothing"] = r => EchoPeer.Reply(r, 0, size: 0),
        ["a flood"] = r => new byte[100_000],
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public void A_peer_that_lies_at_first_is_refused(string lie)
    {
        using var peer = new EchoPeer(SocketPath) { Lie = Answers[lie] }.Start();
        Assert.Contains("the peer answers GetFeatures", Assert.Throws<ConfigurationException>(() => Open()).Message);
    }

    [Theory]
    [MemberData(nameof(Lies))]
    public void A_peer_that_lies_later_is_dropped(string lie)
    {
        using var peer = new EchoPeer(SocketPath)
            { Lie = r => r is VhostUserRequest.SetMemTable ? Answers[lie](r) : null }.Start();
        VhostUserNet net = Open();
        Start(net);
        Stop(net, Receive);        // nobody waits for it
        Assert.True(Wait(() => !net.IsConnected));
        Assert.Contains("the peer answers SetMemTable", Loop.Do(() => Assert.Single(Host.Warnings)));
    }

    [Fact]
    public void A_peer_that_refuses_is_dropped()
    {
        using var peer = new EchoPeer(SocketPath)
            { Lie = r => r is VhostUserRequest.SetVringAddr ? EchoPeer.Reply(r, 22) : null }.Start();
        VhostUserNet net = Open();
        Start(net);
        Assert.True(Wait(() => !net.IsConnected));
        Assert.Contains("the peer refuses SetVringAddr: 22", Loop.Do(() => Assert.Single(Host.Warnings)));
    }

    [Fact]
    public void A_silent_peer_is_not_waited_for_for_ever()
    {
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        using var channel = new VhostUserChannel(ours, patience: 1);
        using var other = new StreamSocket(theirs);
        Assert.Contains("does not answer", Assert.Throws<VhostUserException>(
            () => channel.Ask(VhostUserRequest.GetFeatures)).Message);
        Action talk = () =>
        {
            while (true) channel.Tell(VhostUserRequest.SetOwner, []);
        };
        Assert.Contains("does not read", Assert.Throws<VhostUserException>(talk).Message);
        other.Dispose();
        Assert.Contains("has gone", Assert.Throws<VhostUserException>(
            () => channel.Ask(VhostUserRequest.GetFeatures)).Message);
    }
}
