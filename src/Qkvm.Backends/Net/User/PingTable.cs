using System.Buffers.Binary;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Pings that leave the host, by its ICMP sockets, which need no privilege where
/// net.ipv4.ping_group_range allows them. icmp(7).</summary>
sealed class PingTable(UserStack stack)
{
    const int MaxPings = 64, Patience = 10_000;                    // milliseconds
    const int IdentifierAt = 4;                                    // where it is in a message

    readonly Dictionary<(IpAddress Guest, IpAddress Remote, ushort Id), Ping> _pings = [];

    public int Count => _pings.Count;

    public IEnumerable<UserConnection> Describe() => _pings.Values.Select(p => new UserConnection(UserProtocol.Icmp,
        $"{(Patience - (stack.Now - p.LastUsed)) / 1000} sec", p.Socket.Fd, $"{p.Ends.Guest.Address}", p.Identifier,
        $"{p.Ends.Remote.Address}", null, 0, 0));

    /// <summary>An echo request to somebody on the host's network.</summary>
    public void Send(in IpPacket packet, ReadOnlySpan<byte> message, MacAddress from)
    {
        var ends = new TcpKey(new IpEndpoint(packet.Source, 0), new IpEndpoint(packet.Destination, 0));
        var key = (packet.Source, packet.Destination, BinaryPrimitives.ReadUInt16BigEndian(message[IdentifierAt..]));
        if (!stack.Routes.TryFind(ends.Remote with { Port = 1 }, isTcp: false, out _)) return;
        if (!_pings.TryGetValue(key, out Ping? ping))
        {
            if (RelaySocket.Open(RelayKind.Ping, packet.Source.IsV4, out _) is not { } socket)
            {
                stack.Icmp.EchoFailed(ends, from, message, Icmp.Prohibited);
                return;
            }
            if (_pings.Count >= MaxPings) Remove(_pings.MinBy(p => p.Value.LastUsed).Key);
            _pings[key] = ping = new Ping(stack, ends, socket, key.Item3);
            stack.Loop.Post(ping.Watch);
            stack.NeedClock();
        }
        ping.LastUsed = stack.Now;
        ping.Mac = from;
        int sent = ping.Socket.SendTo(message, ends.Remote);
        if (sent is -Libc.ENetUnreach or -Libc.EHostUnreach) stack.Icmp.EchoFailed(ends, from, message, -sent);
    }

    public void Tick()
    {
        foreach (var (key, ping) in _pings)
            if (stack.Now - ping.LastUsed > Patience) { Remove(key); return; } // the others next time
    }

    public void Clear()
    {
        while (_pings.Count > 0) Remove(_pings.Keys.First());
    }

    void Remove((IpAddress, IpAddress, ushort) key)
    {
        if (_pings.Remove(key, out Ping? ping)) stack.Loop.Post(ping.Close);
    }

    sealed class Ping(UserStack stack, TcpKey ends, RelaySocket socket, ushort identifier)
    {
        bool _isWatched;

        public RelaySocket Socket => socket;
        public TcpKey Ends => ends;
        public ushort Identifier => identifier;
        public long LastUsed { get; set; }
        public MacAddress Mac { get; set; }

        public void Watch()
        {
            if (socket.Fd < 0) return;
            _isWatched = true;
            stack.Loop.Watch(socket.Fd, FdEvents.Readable, OnReady);
        }

        public void Close()
        {
            if (_isWatched) stack.Loop.Unwatch(socket.Fd);
            socket.Dispose();
        }

        void OnReady(FdEvents events)
        {
            using UserStack.LoopScope scope = stack.OnLoop();
            Span<byte> message = stack.Whole;
            int length = socket.ReceiveFrom(message, out _);
            if (length < 8)
            {
                if ((events & FdEvents.Error) != 0) socket.ReceiveFailure(message, out _); // or it comes for ever
                return;
            }
            message = message[..length];
            BinaryPrimitives.WriteUInt16BigEndian(message[IdentifierAt..], identifier);
            stack.Icmp.Answer(ends, message, Mac);
        }
    }
}
