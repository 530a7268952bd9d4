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
public sealed class VhostUserNetTests : IDisposable
{
    const int Receive = 0, Transmit = 1, Size = 8;
    const ulong Data = 0x40000, ReceiveRing = 0x10000, TransmitRing = 0x20000;
    static readonly TimeSpan Hang = TimeSpan.FromMinutes(1);

    readonly TestLoop _loop = new();
    readonly FakeHost _host;
    readonly string _folder = Directory.CreateTempSubdirectory("vhost").FullName;
    readonly MemoryFile _file = MemoryFile.Create("ram", isShared: true);
    readonly TestMemory _memory;
    readonly GuestQueue _receive, _transmit;
    readonly List<IDisposable> _signals = [];
    VhostUserNet? _net;
    SocketChar? _chardev;
    int _calls;

    public VhostUserNetTests()
    {
        _host = new FakeHost(_loop.Loop);
        _memory = new TestMemory(_file);
        _receive = new GuestQueue(_memory.Space, ReceiveRing, Size);
        _transmit = new GuestQueue(_memory.Space, TransmitRing, Size);
    }

    public void Dispose()
    {
        _loop.Do(() =>
        {
            _net?.Dispose();
            _chardev?.Dispose();
            return 0;
        });
        _loop.Dispose();
        foreach (IDisposable signal in _signals) signal.Dispose();
        _memory.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    string SocketPath => Path.Combine(_folder, "socket");

    VhostUserNet Open(string options = "", bool hasPeer = true)
    {
        var given = new Properties(SocketChar.Model, Options.Parse($"id=c,path={SocketPath},server=on,wait=off",
            "-chardev socket"));
        _loop.Do(() =>
        {
            _chardev = (SocketChar)SocketChar.Model.Create(given, _host);
            _host.Backends.Chardevs["c"] = _chardev;
        });
        if (hasPeer) _loop.Await(() => _chardev!.IsOpen);
        return _net = _loop.Do(() => (VhostUserNet)VhostUserNet.Model.Create(new Properties(VhostUserNet.Model,
            Options.Parse($"id=n,chardev=c{options}", "-netdev vhost-user,id=n")), _host));
    }

    VhostRing RingOf(int index)
    {
        GuestQueue queue = index == Receive ? _receive : _transmit;
        var ring = new VhostRing(index, Size, queue.Descriptors, queue.Available, queue.Used, 0,
            () => queue.UsedIndex, new WakeEvent(), new WakeEvent());
        _signals.AddRange([ring.Kick, ring.Call]);
        if (index == Receive)
            _loop.Do(() => _loop.Loop.Watch(ring.Call.Fd, FdEvents.Readable, _ =>
            {
                ring.Call.Clear();
                Interlocked.Increment(ref _calls);
            }));
        return ring;
    }

    (VhostRing Receive, VhostRing Transmit) Start(VhostUserNet net)
    {
        net.Start(1UL << 32, VhostRegion.Of(_memory.Space.View));
        (VhostRing Receive, VhostRing Transmit) rings = (RingOf(Receive), RingOf(Transmit));
        net.StartRing(rings.Receive);
        net.StartRing(rings.Transmit);
        return rings;
    }

    static void Stop(VhostUserNet net, int ring)
    {
        Task end = net.StopRingAsync(ring);
        Assert.True(SpinWait.SpinUntil(() => end.IsCompleted, Hang));
    }

    void SendsAndReceives((VhostRing Receive, VhostRing Transmit) rings, byte mark)
    {
        byte[] frame = [.. new byte[12], .. Enumerable.Repeat(mark, 60)];
        _memory.Space.Write(Data, frame);
        _receive.Add((Data + 0x1000, -1526));
        _transmit.Add((Data, frame.Length));
        rings.Transmit.Kick.Set();
        (uint Id, uint Written)? used = null;
        Assert.True(SpinWait.SpinUntil(() => (used ??= _receive.TakeUsed()) != null, Hang));
        Assert.Equal(72u, used!.Value.Written);
        Assert.Equal(frame, _memory.Bytes(Data + 0x1000, 72));
        Assert.True(SpinWait.SpinUntil(() => _transmit.TakeUsed() != null, Hang));
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
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref _calls) > 0, Hang));
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
        Assert.True(SpinWait.SpinUntil(() => !net.IsConnected, Hang));
        using var next = new EchoPeer(SocketPath).Start();
        SendsAndReceives(rings, 99);
        Assert.True(SpinWait.SpinUntil(() => net.IsConnected, Hang));
        Assert.Contains("the peer has gone", _loop.Do(() => Assert.Single(_host.Warnings)));
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
            net.Start(1UL << 32 | 1 << 15, VhostRegion.Of(_memory.Space.View));
            Stop(net, 0);
        }
        Assert.True(SpinWait.SpinUntil(() => !net.IsConnected, Hang));
        using var next = new EchoPeer(SocketPath).Start();
        Assert.True(SpinWait.SpinUntil(() => _loop.Do(() => _host.Warnings.Count) == 2, Hang));
        Assert.Contains("lacks features 8000", _host.Warnings[1]);
        Assert.False(net.IsConnected);
    }

    [Fact]
    public void More_queues_than_the_peer_has_are_refused()
    {
        using var peer = new EchoPeer(SocketPath) { Queues = 2 }.Start();
        var error = Assert.Throws<ConfigurationException>(() => Open(",queues=3"));
        Assert.EndsWith("you are asking more queues than supported: 2", error.Message);
        Assert.Null(_host.Backends.OwnerOfChardev("c"));
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
        _host.Backends.Chardevs["c"] = new FakeChar();
        var error = Assert.Throws<ConfigurationException>(() => VhostUserNet.Model.Create(
            new Properties(VhostUserNet.Model, Options.Parse("id=n,chardev=c", "-netdev vhost-user,id=n")), _host));
        Assert.Contains("chardev \"c\" is not a unix socket", error.Message);
    }

    [Fact]
    public void Cards_without_rings_cannot_use_it()
    {
        using var peer = new EchoPeer(SocketPath).Start();
        VhostUserNet net = Open();
        var error = Assert.Throws<ConfigurationException>(() => net.Open(0, null!, _loop.Loop));
        Assert.Contains("requires frontend driver virtio-net", error.Message);
    }

    [Fact]
    public void Only_shared_memory_is_given_away()
    {
        Assert.True(VhostRegion.IsShared(_memory.Space.View));
        VhostRegion region = Assert.Single(VhostRegion.Of(_memory.Space.View));
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
        Assert.True(SpinWait.SpinUntil(() => !net.IsConnected, Hang));
        Assert.Contains("the peer answers SetMemTable", _loop.Do(() => Assert.Single(_host.Warnings)));
    }

    [Fact]
    public void A_peer_that_refuses_is_dropped()
    {
        using var peer = new EchoPeer(SocketPath)
            { Lie = r => r is VhostUserRequest.SetVringAddr ? EchoPeer.Reply(r, 22) : null }.Start();
        VhostUserNet net = Open();
        Start(net);
        Assert.True(SpinWait.SpinUntil(() => !net.IsConnected, Hang));
        Assert.Contains("the peer refuses SetVringAddr: 22", _loop.Do(() => Assert.Single(_host.Warnings)));
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
