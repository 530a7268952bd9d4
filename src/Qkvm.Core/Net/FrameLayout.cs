using System.Buffers.Binary;

namespace Qkvm.Core.Net;

/// <summary>Where the headers of an Ethernet frame stand. IEEE 802.3, 802.1Q; RFC 791, 8200.</summary>
/// <param name="Network">Offset of the IP header; 0: it is no IP.</param>
/// <param name="IsIp6">Else IPv4.</param>
/// <param name="Transport">Offset of what IP carries; 0: a fragment, or headers that are cut off.</param>
/// <param name="End">Where the IP packet ends, before any padding.</param>
public readonly record struct FrameLayout(int Network, bool IsIp6, int Transport, byte Protocol, int End)
{
    public const int Addresses = 12;                               // bytes before the type
    public const byte Tcp = 6, Udp = 17;
    const ushort Ip4Type = 0x0800, Ip6Type = 0x86DD, TagType = 0x8100, OuterTagType = 0x88A8;
    const int Tag = 4, MostTags = 2, Ip4Header = 20, Ip6Header = 40;
    const ushort MoreFragments = 0x2000, FragmentOffset = 0x1FFF;

    /// <summary>Checksum in the header of <see cref="Protocol"/>, from its start; 0 for a protocol without.</summary>
    public int ChecksumOffset => Protocol switch { Tcp => 16, Udp => 6, _ => 0 };

    /// <summary>Source and target of the IP header.</summary>
    public ReadOnlySpan<byte> IpAddresses(ReadOnlySpan<byte> frame) =>
        IsIp6 ? frame.Slice(Network + 8, 32) : frame.Slice(Network + 12, 8);

    /// <summary>Bytes of the IPv4 header with its options.</summary>
    public int Ip4Length(ReadOnlySpan<byte> frame) => (frame[Network] & 15) * 4;

    /// <summary>A frame whose lengths are right; any other is no IP.</summary>
    public static FrameLayout Of(ReadOnlySpan<byte> frame)
    {
        int at = NetworkStart(frame, out bool isIp6);
        return at == 0 ? default : isIp6 ? OfIp6(frame, at) : OfIp4(frame, at);
    }

    /// <summary>Where a whole IP header (without options) starts; 0: there is none.</summary>
    public static int NetworkStart(ReadOnlySpan<byte> frame, out bool isIp6)
    {
        isIp6 = false;
        int at = Addresses;
        for (int tags = 0; tags < MostTags && at + 2 <= frame.Length; tags++)
        {
            if (BinaryPrimitives.ReadUInt16BigEndian(frame[at..]) is not (TagType or OuterTagType)) break;
            at += Tag;
        }
        if (at + 2 > frame.Length) return 0;
        ushort type = BinaryPrimitives.ReadUInt16BigEndian(frame[at..]);
        at += 2;
        isIp6 = type == Ip6Type;
        int version = isIp6 ? 6 : 4;
        return (isIp6 || type == Ip4Type) && at + (isIp6 ? Ip6Header : Ip4Header) <= frame.Length
            && frame[at] >> 4 == version ? at : 0;
    }

    static FrameLayout OfIp4(ReadOnlySpan<byte> frame, int at)
    {
        int header = (frame[at] & 15) * 4, end = at + BinaryPrimitives.ReadUInt16BigEndian(frame[(at + 2)..]);
        if (header < Ip4Header || at + header > frame.Length || end > frame.Length || end < at + header) return default;
        ushort fragment = BinaryPrimitives.ReadUInt16BigEndian(frame[(at + 6)..]);
        bool isWhole = (fragment & (MoreFragments | FragmentOffset)) == 0;
        return new(at, false, isWhole ? at + header : 0, frame[at + 9], end);
    }

    static FrameLayout OfIp6(ReadOnlySpan<byte> frame, int at)
    {
        int end = at + Ip6Header + BinaryPrimitives.ReadUInt16BigEndian(frame[(at + 4)..]);
        if (end > frame.Length) return default;
        byte next = frame[at + 6];
        return new(at, true, next is Tcp or Udp ? at + Ip6Header : 0, next, end);
    }
}
