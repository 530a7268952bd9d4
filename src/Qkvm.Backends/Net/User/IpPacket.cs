using System.Buffers.Binary;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

enum IpProtocol : byte { HopByHop = 0, Icmp = 1, Tcp = 6, Udp = 17, Routing = 43, Fragment = 44, Icmp6 = 58, None = 59,
    DestinationOptions = 60 }

/// <summary>The header of a packet of IPv4 or IPv6, as it came. RFC 791, RFC 8200.</summary>
/// <remarks>All numbers have been checked against the packet's length.</remarks>
readonly ref struct IpPacket
{
    const int V4HeaderLength = 20, V6HeaderLength = 40, MaxExtensions = 8;

    public IpAddress Source { get; private init; }
    public IpAddress Destination { get; private init; }
    public IpProtocol Protocol { get; private init; }
    public byte HopLimit { get; private init; }

    /// <summary>Where the payload begins, in bytes from the packet's first.</summary>
    public int HeaderLength { get; private init; }

    public int PayloadLength { get; private init; }

    /// <summary>Of a fragment: the packet that it belongs to, its place in bytes, and whether others follow.</summary>
    public uint Identification { get; private init; }
    public int FragmentOffset { get; private init; }
    public bool HasMoreFragments { get; private init; }

    public bool IsFragment => FragmentOffset > 0 || HasMoreFragments;

    /// <param name="head">The packet from its first byte on, at least its headers.</param>
    /// <param name="length">Bytes of the whole packet, padding included.</param>
    public static bool TryParse(ReadOnlySpan<byte> head, int length, out IpPacket packet)
    {
        packet = default;
        if (head.Length < V4HeaderLength) return false;
        return (head[0] >> 4) switch
        {
            4 => TryParse4(head, length, out packet),
            6 => TryParse6(head, length, out packet),
            _ => false,
        };
    }

    static bool TryParse4(ReadOnlySpan<byte> head, int length, out IpPacket packet)
    {
        const int moreFragments = 0x2000;
        packet = default;
        int headerLength = (head[0] & 0xF) * 4, total = BinaryPrimitives.ReadUInt16BigEndian(head[2..]);
        if (headerLength < V4HeaderLength || headerLength > head.Length || total < headerLength || total > length)
            return false;
        if (Checksum.Of(head[..headerLength]) != 0) return false;
        int fragment = BinaryPrimitives.ReadUInt16BigEndian(head[6..]);
        packet = new IpPacket
        {
            Source = IpAddress.Read(head.Slice(12, 4)), Destination = IpAddress.Read(head.Slice(16, 4)),
            Protocol = (IpProtocol)head[9], HopLimit = head[8],
            HeaderLength = headerLength, PayloadLength = total - headerLength,
            Identification = BinaryPrimitives.ReadUInt16BigEndian(head[4..]),
            FragmentOffset = (fragment & 0x1FFF) * 8, HasMoreFragments = (fragment & moreFragments) != 0,
        };
        return true;
    }

    static bool TryParse6(ReadOnlySpan<byte> head, int length, out IpPacket packet)
    {
        packet = default;
        if (head.Length < V6HeaderLength) return false;
        int total = V6HeaderLength + BinaryPrimitives.ReadUInt16BigEndian(head[4..]);
        IpAddress source = IpAddress.Read(head.Slice(8, 16)), destination = IpAddress.Read(head.Slice(24, 16));
        if (total > length || source.IsV4 || destination.IsV4) return false;
        var next = (IpProtocol)head[6];
        int at = V6HeaderLength, fragmentOffset = 0;
        uint identification = 0;
        bool more = false;
        for (int i = 0; i < MaxExtensions && IsExtension(next); i++)
        {
            if (at + 8 > Math.Min(total, head.Length)) return false;
            if (next == IpProtocol.Fragment)
            {
                int field = BinaryPrimitives.ReadUInt16BigEndian(head[(at + 2)..]);
                (fragmentOffset, more) = (field & ~7, (field & 1) != 0);
                identification = BinaryPrimitives.ReadUInt32BigEndian(head[(at + 4)..]);
            }
            int size = next == IpProtocol.Fragment ? 8 : (head[at + 1] + 1) * 8;
            next = (IpProtocol)head[at];
            at += size;
            if (fragmentOffset > 0) break;                         // what follows is the middle of something
        }
        if (at > total || at > head.Length) return false;
        packet = new IpPacket
        {
            Source = source, Destination = destination, Protocol = next, HopLimit = head[7],
            HeaderLength = at, PayloadLength = total - at,
            Identification = identification, FragmentOffset = fragmentOffset, HasMoreFragments = more,
        };
        return true;
    }

    static bool IsExtension(IpProtocol next) => next is IpProtocol.HopByHop or IpProtocol.Routing
        or IpProtocol.Fragment or IpProtocol.DestinationOptions;
}
