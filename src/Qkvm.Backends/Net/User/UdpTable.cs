using System.Buffers.Binary;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Datagrams of the guest: each of its ports is a port of the host, which answers find. RFC 768, RFC
/// 4787.</summary>
sealed class UdpTable(UserStack stack)
{
    const ushort DhcpServer = 67, Dhcp6Server = 547, TftpServer = 69;

    /// <param name="Remote">Set where a socket of its own belongs to one other end: the nameserver, and clients of
    /// forwarded ports.</param>
    readonly record struct Key(IpEndpoint Guest, IpEndpoint Remote);

    readonly int _maxFlows = (int)Math.Min(1024, HostProcess.MaxDescriptors / 4);

    readonly Dictionary<Key, UdpFlow> _flows = [];

    public int Count => _flows.Count;

    public IEnumerable<UdpFlow> All => _flows.Values;

    /// <summary>A datagram from the guest. From any thread.</summary>
    public void Input(in IpPacket packet, ReadOnlySpan<byte> datagram, MacAddress from, bool isChecked)
    {
        if (datagram.Length < FrameWriter.UdpLength) return;
        int length = BinaryPrimitives.ReadUInt16BigEndian(datagram[4..]);
        if (length < FrameWriter.UdpLength || length > datagram.Length) return;
        datagram = datagram[..length];
        bool hasChecksum = BinaryPrimitives.ReadUInt16BigEndian(datagram[6..]) != 0 || !packet.Source.IsV4;
        if (hasChecksum && !isChecked && FrameWriter.Payload(datagram, packet.Source, packet.Destination,
            IpProtocol.Udp) != 0) return;
        var guest = new IpEndpoint(packet.Source, BinaryPrimitives.ReadUInt16BigEndian(datagram));
        var to = new IpEndpoint(packet.Destination, BinaryPrimitives.ReadUInt16BigEndian(datagram[2..]));
        ReadOnlySpan<byte> data = datagram[FrameWriter.UdpLength..];
        if (to.Port == DhcpServer && to.Address.IsV4) { stack.Dhcp.Input(data, from); return; }
        if (packet.Source.IsUnspecified) return;
        if (to.Port == Dhcp6Server && !to.Address.IsV4) { stack.Dhcp6.Input(guest, to, data, from); return; }
        if (to.Port == TftpServer && IsHost(to.Address) && stack.Options.TftpFolder != null)
        {
            stack.Tftp.Input(guest, to, data, from);
            return;
        }
        if (!stack.Routes.TryFind(to, isTcp: false, out IpEndpoint real) && !IsForwarded(guest, to)) return;
        if (Find(guest, to, real, from) is { } flow) flow.Send(to, real, data);
    }

    /// <summary>A client of a forwarded port sent the data that stand in the scratch frame.</summary>
    public void Forward(IpEndpoint guest, IpEndpoint client, RelaySocket socket, int length)
    {
        IpEndpoint source = stack.Routes.FromHost(client, guest.Address.IsV4);
        if (!stack.Neighbours.TryFind(guest.Address, out MacAddress mac)) return;
        var key = new Key(guest, source);
        if (!_flows.ContainsKey(key)) Add(key, new UdpFlow(stack, guest, source, socket, false, client) { Mac = mac });
        SendToGuest(source, guest, mac, length);
    }

    public void Tick()
    {
        foreach ((Key key, UdpFlow flow) in _flows)
            if (flow.IsExpired) { Remove(key); return; }           // the others next time
    }

    public void Clear()
    {
        while (_flows.Count > 0) Remove(_flows.Keys.First());
    }

    /// <summary>A datagram to the guest, in fragments if it is long. Its data begin at
    /// <see cref="DataOffset"/> of the stack's scratch frame.</summary>
    public void SendToGuest(IpEndpoint source, IpEndpoint guest, MacAddress mac, int length)
    {
        bool isV4 = guest.Address.IsV4;
        int headers = FrameWriter.HeadersLength(isV4), size = FrameWriter.UdpLength + length;
        Span<byte> frame = stack.Scratch.AsSpan(0, headers + size);
        FrameWriter.Ethernet(frame, mac, stack.MacFor(isV4), isV4 ? EtherType.Ip4 : EtherType.Ip6);
        FrameWriter.Ip(frame, source.Address, guest.Address, IpProtocol.Udp, size);
        FrameWriter.Udp(frame[headers..], source, guest);
        FragmentWriter.Send(stack.Wire, frame, isV4);
    }

    /// <summary>Where the data of a datagram for the guest are put before <see cref="SendToGuest"/>.</summary>
    public Span<byte> DataFor(bool isV4) => stack.Scratch.AsSpan(DataOffset(isV4), MaxData);

    /// <summary>Bytes in one datagram of IPv4.</summary>
    public const int MaxData = 65535 - 20 - FrameWriter.UdpLength;

    static int DataOffset(bool isV4) => FrameWriter.HeadersLength(isV4) + FrameWriter.UdpLength;

    bool IsHost(IpAddress address) => address == stack.Options.Host || address == stack.Options.Host6;

    bool IsForwarded(IpEndpoint guest, IpEndpoint to) =>
        _flows.TryGetValue(new Key(guest, to), out UdpFlow? flow) && flow.IsForwarded;

    UdpFlow? Find(IpEndpoint guest, IpEndpoint to, IpEndpoint real, MacAddress from)
    {
        bool isNameserver = stack.Routes.IsNameserver(to);
        IpEndpoint remote = isNameserver ? to : default;
        if (_flows.TryGetValue(new Key(guest, to), out UdpFlow? flow)
            || _flows.TryGetValue(new Key(guest, remote), out flow))
        {
            flow.Mac = from;
            return flow;
        }
        if (RelaySocket.Open(RelayKind.Datagram, real.Address.IsV4, out _) is not { } socket) return null;
        if (isNameserver) socket.Connect(real);                    // nobody else may answer
        flow = new UdpFlow(stack, guest, remote, socket, isNameserver) { Mac = from };
        Add(new Key(guest, remote), flow);
        return flow;
    }

    void Add(Key key, UdpFlow flow)
    {
        if (_flows.Count >= _maxFlows) Remove(_flows.MinBy(f => f.Value.LastUsed).Key);
        _flows[key] = flow;
        if (!flow.IsForwarded) stack.Loop.Post(flow.Watch);
        stack.NeedClock();
    }

    void Remove(Key key)
    {
        if (_flows.Remove(key, out UdpFlow? flow)) stack.Loop.Post(flow.Close);
    }
}
