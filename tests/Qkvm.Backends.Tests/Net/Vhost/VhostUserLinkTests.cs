using System.Buffers.Binary;
using Qkvm.Backends.Char;
using Qkvm.Backends.Vhost;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Net.Vhost;

/// <summary>What devices in other processes have beside networks: a configuration, peers that begin anew, and word
/// unasked.</summary>
public sealed class VhostUserLinkTests : VhostUserBench
{
    const ulong Configuring = 0x229;                               // MQ, REPLY_ACK, BACKEND_REQ, CONFIG
    const int ConfigSize = 8;

    EchoPeer Peer(byte first = 1, Func<VhostUserRequest, byte[]?>? lie = null) => new EchoPeer(SocketPath)
    {
        ProtocolFeatures = Configuring, Queues = 2, Config = [first, 2, 3, 4, 5, 6, 7, 8],
        Lie = lie ?? (static _ => null),
    }.Start();

    VhostUserLink Open(VhostUserNeeds needs)
    {
        SocketChar chardev = Chardev();
        VhostUserLink link = Loop.Do(() => (VhostUserLink)((IVhostUserSocket)chardev).Serve(
            needs with { Owner = "-device test" }));
        Served = link;
        return link;
    }

    static VhostUserNeeds Needs => new(2, "it does not answer") { ConfigSize = ConfigSize };

    VhostRing RingOf(int index, uint? afterLoss) => RingOf(index, 8, 0x1000, 0x2000, 0x3000, () => afterLoss);

    static void Stop(VhostUserLink link, int ring) => Ends(link.StopRingAsync(ring));

    static byte[] Notice(uint request, uint flags = 1, int size = 0)
    {
        var raw = new byte[12 + Math.Max(0, Math.Min(size, 300))];
        BinaryPrimitives.WriteUInt32LittleEndian(raw, request);
        BinaryPrimitives.WriteUInt32LittleEndian(raw.AsSpan(4), flags);
        BinaryPrimitives.WriteInt32LittleEndian(raw.AsSpan(8), size);
        return raw;
    }

    [Fact]
    public void The_peer_keeps_the_configuration_and_tells_of_changes()
    {
        using EchoPeer peer = Peer();
        VhostUserLink link = Open(Needs);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], link.Config);
        int changes = 0;
        link.ConfigChanged += () => Interlocked.Increment(ref changes);
        Assert.True(Wait(() => peer.CanSpeak));
        peer.Config = [9, 2, 3, 4, 5, 6, 7, 8];
        var answer = new byte[20];
        peer.Say(Notice(2, flags: 9), answer);                     // CONFIG_CHANGE_MSG, NEED_REPLY
        Assert.Equal(EchoPeer.Reply((VhostUserRequest)2, 0), answer);
        Assert.True(Wait(() => Volatile.Read(ref changes) == 1));
        Assert.Equal(9, link.Config[0]);
        peer.Say(Notice(3, flags: 9, size: 40), answer);           // what nobody has asked for is refused
        Assert.Equal(EchoPeer.Reply((VhostUserRequest)3, 1), answer);
        link.SetConfig(4, [0x77]);
        Stop(link, 0);
        lock (peer.Heard)
            Assert.Equal([4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x77],
                Assert.Single(peer.Heard, heard => heard.Request == VhostUserRequest.SetConfig).Payload);
    }

    [Theory]
    [InlineData(1u, int.MaxValue)] [InlineData(1u, -1)] [InlineData(1u, 269)] [InlineData(2u, 0)] [InlineData(5u, 0)]
    public void Word_that_is_not_of_the_protocol_is_not_heard_any_more(uint flags, int size)
    {
        using EchoPeer peer = Peer();
        VhostUserLink link = Open(Needs);
        Assert.True(Wait(() => peer.CanSpeak));
        peer.Say(Notice(2, flags, size), []);
        peer.Config = [9, 2, 3, 4, 5, 6, 7, 8];
        peer.Say(Notice(2), []);
        Loop.Do(() => { });
        Stop(link, 0);
        Assert.Equal(1, link.Config[0]);
        Assert.True(link.IsConnected);
    }

    [Theory]
    [InlineData(8u, 1u << 30)] [InlineData(8u, 0u)] [InlineData(uint.MaxValue, 0u)] [InlineData(19u, 0u)]
    public void A_configuration_of_another_length_is_refused(uint size, uint flags)
    {
        using EchoPeer peer = Peer(lie: request => request == VhostUserRequest.GetConfig
            ? EchoPeer.Reply(request, 0, 5 | flags, size) : null);
        var error = Assert.Throws<ConfigurationException>(() => Open(Needs));
        Assert.Contains("-device test: ", error.Message);
        Assert.Contains("the peer answers GetConfig", error.Message);
    }

    [Fact]
    public void A_peer_without_configuration_is_refused()
    {
        using var peer = new EchoPeer(SocketPath) { Queues = 2 }.Start();
        Assert.Contains("does not tell of the device's configuration",
            Assert.Throws<ConfigurationException>(() => Open(Needs)).Message);
    }

    [Fact]
    public void A_chardev_that_was_refused_or_returned_can_be_used_again()
    {
        using (new EchoPeer(SocketPath).Start()) Assert.Throws<ConfigurationException>(() => Open(Needs));
        using (Peer())
        {
            Open(Needs);
            Loop.Do(() => Served!.Dispose());
        }
        using EchoPeer next = Peer(first: 5);
        Assert.Equal(5, Open(Needs).Config[0]);
        Assert.Empty(Host.Warnings);
    }

    [Fact]
    public void Rings_of_a_peer_that_begins_anew_are_lost_but_not_those_that_nobody_served()
    {
        var failed = new List<string>();
        VhostUserLink link;
        using (Peer())
        {
            link = Open(Needs);
            link.Failed += why => { lock (failed) failed.Add(why); };
            link.Start(1UL << 32, VhostRegion.Of(Memory.Space.View));
            link.StartRing(RingOf(0, afterLoss: 3));
            Stop(link, 5);                                         // nobody has it: this only waits
        }
        Assert.True(Wait(() => !link.IsConnected));
        link.StartRing(RingOf(1, afterLoss: null));
        using EchoPeer next = Peer();
        Assert.True(Wait(() => link.IsConnected));
        Stop(link, 0);
        Stop(link, 1);
        lock (failed) Assert.Equal(["queue 0: its vhost-user peer has gone"], failed);
        Assert.Contains("-device test: the peer has gone; it does not answer", Loop.Do(() =>
            Assert.Single(Host.Warnings)));
        lock (next.Heard)
        {
            Assert.Equal(1, Assert.Single(next.Heard, h => h.Request == VhostUserRequest.SetVringBase).Payload[0]);
            Assert.Equal(1, Assert.Single(next.Heard, h => h.Request == VhostUserRequest.GetVringBase).Payload[0]);
        }
    }

    [Fact]
    public void A_ring_that_holds_too_little_to_go_on_is_lost()
    {
        string? failed = null;
        VhostUserLink link;
        VhostUserNeeds needs = Needs with { Resumes = true };
        using (Peer())
        {
            link = Open(needs);
            link.Failed += why => Volatile.Write(ref failed, why);
            link.Start(1UL << 32, VhostRegion.Of(Memory.Space.View));
            link.StartRing(RingOf(0, afterLoss: null));
            link.StartRing(RingOf(1, afterLoss: 7));
            Stop(link, 5);
        }
        Assert.True(Wait(() => !link.IsConnected));
        using EchoPeer next = Peer();
        Assert.True(Wait(() => Volatile.Read(ref failed) != null));
        Stop(link, 5);
        lock (next.Heard)
            Assert.Equal([1, 0, 0, 0, 7, 0, 0, 0],
                Assert.Single(next.Heard, h => h.Request == VhostUserRequest.SetVringBase).Payload);
    }

    [Fact]
    public void Memory_that_came_is_told()
    {
        using EchoPeer peer = Peer();
        VhostUserLink link = Open(Needs);
        link.Start(1UL << 32, VhostRegion.Of(Memory.Space.View));
        link.SetMemory([]);
        Stop(link, 5);
        lock (peer.Heard)
            Assert.Equal([1, 0], peer.Heard.Where(h => h.Request == VhostUserRequest.SetMemTable)
                .Select(h => (int)h.Payload[0]));
    }
}
