using System.Buffers.Binary;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Echoes and complaints. RFC 792, RFC 4443.</summary>
sealed class Icmp(UserStack stack)
{
    const byte EchoReply = 0, DestinationUnreachable = 3, Echo = 8;
    const byte DestinationUnreachable6 = 1, Echo6 = 128, EchoReply6 = 129;
    const int HeaderLength = 8, MaxQuoted = 512;
    const byte GatewayHopLimit = 255;

    /// <summary>In place of an errno: RFC 1812, section 5.2.7.1, communication administratively prohibited.</summary>
    public const int Prohibited = -1;

    readonly PingTable _pings = new(stack);

    public int Count => _pings.Count;

    public void Input(in IpPacket packet, ReadOnlySpan<byte> message, MacAddress from)
    {
        if (message.Length < HeaderLength || Checksum.Of(message) != 0 || message[0] != Echo) return;
        Ask(packet, message, from);
    }

    public void Input6(in IpPacket packet, ReadOnlySpan<byte> message, MacAddress from)
    {
        if (message.Length < HeaderLength || FrameWriter.Payload(message, packet.Source, packet.Destination,
            IpProtocol.Icmp6) != 0) return;
        if (message[0] == Echo6) Ask(packet, message, from);
        else stack.Discovery.Input(packet, message, from);
    }

    public IEnumerable<UserConnection> Describe() => _pings.Describe();

    public void Tick() => _pings.Tick();

    public void Clear() => _pings.Clear();

    void Ask(in IpPacket packet, ReadOnlySpan<byte> message, MacAddress from)
    {
        if (stack.Routes.IsOurs(packet.Destination) || packet.Destination.IsLinkLocal && stack.Discovery.IsOurs(
            packet.Destination))
            Answer(new TcpKey(new IpEndpoint(packet.Source, 0), new IpEndpoint(packet.Destination, 0)), message, from);
        else _pings.Send(packet, message, from);
    }

    /// <summary>An echo request that cannot go further.</summary>
    /// <param name="errno">Or <see cref="Prohibited"/>.</param>
    public void EchoFailed(TcpKey key, MacAddress to, ReadOnlySpan<byte> request, int errno)
    {
        request = request[..Math.Min(request.Length, MaxQuoted)];
        bool isV4 = key.Guest.Address.IsV4;
        Span<byte> quoted = stackalloc byte[FrameWriter.MaxHeaders + MaxQuoted];
        int at = FrameWriter.Ip(quoted, key.Guest.Address, key.Remote.Address, isV4 ? IpProtocol.Icmp
            : IpProtocol.Icmp6, request.Length);
        request.CopyTo(quoted[at..]);
        Unreachable(key.Guest.Address, OursFor(isV4), to, quoted[FrameWriter.EthernetLength..(at + request.Length)],
            errno);
    }

    /// <summary>The guest's request comes back as a reply.</summary>
    /// <param name="between">The guest, and who answers; their ports do not count.</param>
    public void Answer(TcpKey between, ReadOnlySpan<byte> request, MacAddress to)
    {
        bool isV4 = between.Guest.Address.IsV4;
        Span<byte> message = Begin(isV4, request.Length, out Span<byte> frame);
        request.CopyTo(message);
        message[0] = isV4 ? EchoReply : EchoReply6;
        Send(frame, message, between, to, GatewayHopLimit);
    }

    /// <summary>A SYN that leads nowhere: the guest's packet has to be made up again, as far as it is quoted.</summary>
    public void Unreachable(TcpKey key, MacAddress to, uint sequence, int errno)
    {
        bool isV4 = key.Guest.Address.IsV4;
        Span<byte> quoted = stackalloc byte[FrameWriter.MaxHeaders + HeaderLength];
        int at = FrameWriter.Ip(quoted, key.Guest.Address, key.Remote.Address, IpProtocol.Tcp, TcpHeader.MinLength);
        BinaryPrimitives.WriteUInt16BigEndian(quoted[at..], key.Guest.Port);
        BinaryPrimitives.WriteUInt16BigEndian(quoted[(at + 2)..], key.Remote.Port);
        BinaryPrimitives.WriteUInt32BigEndian(quoted[(at + 4)..], sequence);
        Unreachable(key.Guest.Address, OursFor(isV4), to, quoted[FrameWriter.EthernetLength..(at + 8)], errno);
    }

    /// <summary>A datagram that did not arrive.</summary>
    /// <param name="by">Who says so.</param>
    public void Unreachable(TcpKey key, IpAddress by, MacAddress to, ReadOnlySpan<byte> data, int errno)
    {
        data = data[..Math.Min(data.Length, MaxQuoted)];
        Span<byte> quoted = stackalloc byte[FrameWriter.MaxHeaders + FrameWriter.UdpLength + MaxQuoted];
        int size = FrameWriter.UdpLength + data.Length;
        int at = FrameWriter.Ip(quoted, key.Guest.Address, key.Remote.Address, IpProtocol.Udp, size);
        data.CopyTo(quoted[(at + FrameWriter.UdpLength)..]);
        FrameWriter.Udp(quoted.Slice(at, size), key.Guest, key.Remote);
        Unreachable(key.Guest.Address, by, to, quoted[FrameWriter.EthernetLength..(at + size)], errno);
    }

    void Unreachable(IpAddress guest, IpAddress by, MacAddress to, ReadOnlySpan<byte> quoted, int errno)
    {
        bool isV4 = guest.IsV4;
        Span<byte> message = Begin(isV4, HeaderLength + quoted.Length, out Span<byte> frame);
        message[..HeaderLength].Clear();
        message[0] = isV4 ? DestinationUnreachable : DestinationUnreachable6;
        message[1] = Code(isV4, errno);
        quoted.CopyTo(message[HeaderLength..]);
        Send(frame, message, new TcpKey(new IpEndpoint(guest, 0), new IpEndpoint(by, 0)), to, GatewayHopLimit);
    }

    /// <summary>RFC 792: net, host, port. RFC 4443, section 3.1: no route, address, port.</summary>
    static byte Code(bool isV4, int errno) => errno switch
    {
        Libc.EHostUnreach => isV4 ? (byte)1 : (byte)3,
        Libc.EConnRefused => isV4 ? (byte)3 : (byte)4,
        Prohibited => isV4 ? (byte)13 : (byte)1,
        _ => 0,
    };

    IpAddress OursFor(bool isV4) => isV4 ? stack.Options.Host : stack.Options.Host6;

    Span<byte> Begin(bool isV4, int length, out Span<byte> frame)
    {
        int headers = FrameWriter.HeadersLength(isV4);
        frame = stack.Scratch.AsSpan(0, headers + length);
        return frame[headers..];
    }

    void Send(Span<byte> frame, Span<byte> message, TcpKey between, MacAddress to, byte hopLimit)
    {
        IpAddress guest = between.Guest.Address, source = between.Remote.Address;
        bool isV4 = guest.IsV4;
        message[2..4].Clear();
        ushort checksum = isV4 ? Checksum.Of(message)
            : FrameWriter.Payload(message, source, guest, IpProtocol.Icmp6);
        BinaryPrimitives.WriteUInt16BigEndian(message[2..], checksum);
        FrameWriter.Ethernet(frame, to, stack.MacFor(isV4), isV4 ? EtherType.Ip4 : EtherType.Ip6);
        FrameWriter.Ip(frame, source, guest, isV4 ? IpProtocol.Icmp : IpProtocol.Icmp6, message.Length, hopLimit);
        FragmentWriter.Send(stack.Wire, frame, isV4);
    }
}
