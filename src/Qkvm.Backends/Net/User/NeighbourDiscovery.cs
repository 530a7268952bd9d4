using System.Buffers.Binary;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>What ARP and part of DHCP are to IPv4: neighbours and routers of IPv6. RFC 4861; nameservers RFC
/// 8106.</summary>
sealed class NeighbourDiscovery(UserStack stack)
{
    const byte RouterSolicitation = 133, RouterAdvertisement = 134, NeighbourSolicitation = 135,
        NeighbourAdvertisement = 136;
    const byte SourceLinkLayer = 1, TargetLinkLayer = 2, PrefixInformation = 3, Nameserver = 25, SearchList = 31;
    const int HopLimit = 255;                                      // whoever is further away is not believed
    const uint NameserverLifetime = 1_200_000, PrefixLifetime = 86_400, PreferredLifetime = 14_400;
    const ushort RouterLifetime = 1800;
    const int MaxSearchUnits = 128;                                // so that it all fits into one packet

    static readonly UInt128 s_linkLocal = (UInt128)0xFE80 << 112;
    static readonly IpAddress s_allNodes = new((UInt128)0xFF02 << 112 | 1);

    static readonly IpAddress s_router = new(s_linkLocal | 2), s_resolver = new(s_linkLocal | 3);

    public bool IsOurs(IpAddress address) => address == stack.Options.Host6 || address == stack.Options.Nameserver6
        || address == s_router || address == s_resolver;

    /// <summary>A message of ICMPv6 that is no echo; its checksum is right.</summary>
    public void Input(in IpPacket packet, ReadOnlySpan<byte> message, MacAddress from)
    {
        if (packet.HopLimit != HopLimit || message[1] != 0) return;
        switch (message[0])
        {
            case RouterSolicitation: Advertise(packet.Source, from); break;
            case NeighbourSolicitation when message.Length >= 24:
                IpAddress target = IpAddress.Read(message.Slice(8, 16));
                if (IsOurs(target)) Answer(packet.Source, target, from);
                break;
            case NeighbourAdvertisement when message.Length >= 24:
                stack.Neighbours.Learn(IpAddress.Read(message.Slice(8, 16)), from);
                break;
        }
    }

    /// <summary>Asks who has an address. RFC 4861, section 4.3.</summary>
    public void Solicit(IpAddress address)
    {
        // RFC 4291, section 2.7.1: the group of all whose address ends so
        var group = new IpAddress(((UInt128)0xFF02 << 112) | ((UInt128)1 << 32) | 0xFF00_0000
            | (address.Bits & 0xFF_FFFF));
        Span<byte> message = Begin(32);
        message[0] = NeighbourSolicitation;
        address.Write(message[8..]);
        LinkLayer(message[24..], SourceLinkLayer, stack.Mac6);
        Send(message, s_router, group, new MacAddress(0x3333ul << 32 | (uint)group.Bits));
    }

    /// <summary>RFC 4861, section 4.4: we are a router, were asked, and this is the address.</summary>
    void Answer(IpAddress asker, IpAddress target, MacAddress to)
    {
        const byte routerSolicitedOverride = 0xE0;
        Span<byte> message = Begin(32);
        message[0] = NeighbourAdvertisement;
        message[4] = routerSolicitedOverride;
        target.Write(message[8..]);
        LinkLayer(message[24..], TargetLinkLayer, UserStack.MacOf(target));
        Send(message, target, asker.IsUnspecified ? s_allNodes : asker, to);
    }

    /// <summary>RFC 4861, section 4.2.</summary>
    void Advertise(IpAddress asker, MacAddress to)
    {
        UserNetOptions options = stack.Options;
        bool hasNameserver = !options.Restrict && stack.Resolver.HasIpv6;
        byte[] search = options.SearchDomains.Count > 0 ? DomainSearch.Encode(options.SearchDomains) : [];
        int searchUnits = search.Length == 0 ? 0 : 1 + (search.Length + 7) / 8; // of 8 bytes
        if (searchUnits > MaxSearchUnits) searchUnits = 0;
        Span<byte> message = Begin(16 + 8 + 32 + (hasNameserver ? 24 : 0) + 8 * searchUnits);
        message[0] = RouterAdvertisement;
        message[4] = 64;                                           // the guest's hop limit
        BinaryPrimitives.WriteUInt16BigEndian(message[6..], RouterLifetime);
        Span<byte> option = message[16..];
        LinkLayer(option, SourceLinkLayer, stack.Mac6);
        option = option[8..];
        const byte onLinkAutonomous = 0xC0;
        (option[0], option[1], option[2], option[3]) = (PrefixInformation, 4, (byte)options.Prefix6Bits,
            onLinkAutonomous);
        BinaryPrimitives.WriteUInt32BigEndian(option[4..], PrefixLifetime);
        BinaryPrimitives.WriteUInt32BigEndian(option[8..], PreferredLifetime);
        options.Prefix6.Write(option[16..]);
        option = option[32..];
        if (hasNameserver)
        {
            (option[0], option[1]) = (Nameserver, 3);
            BinaryPrimitives.WriteUInt32BigEndian(option[4..], NameserverLifetime);
            options.Nameserver6.Write(option[8..]);
            option = option[24..];
        }
        if (searchUnits > 0)
        {
            (option[0], option[1]) = (SearchList, (byte)searchUnits);
            BinaryPrimitives.WriteUInt32BigEndian(option[4..], NameserverLifetime);
            search.CopyTo(option[8..]);
        }
        Send(message, s_router, asker.IsUnspecified ? s_allNodes : asker, to);
    }

    static void LinkLayer(Span<byte> option, byte type, MacAddress mac)
    {
        (option[0], option[1]) = (type, 1);
        mac.Write(option[2..]);
    }

    Span<byte> Begin(int length)
    {
        Span<byte> message = stack.Scratch.AsSpan(FrameWriter.HeadersLength(isV4: false), length);
        message.Clear();
        return message;
    }

    void Send(Span<byte> message, IpAddress from, IpAddress to, MacAddress mac)
    {
        int headers = FrameWriter.HeadersLength(isV4: false);
        Span<byte> frame = stack.Scratch.AsSpan(0, headers + message.Length);
        BinaryPrimitives.WriteUInt16BigEndian(message[2..], FrameWriter.Payload(message, from, to, IpProtocol.Icmp6));
        FrameWriter.Ethernet(frame, mac, stack.Mac6, EtherType.Ip6);
        FrameWriter.Ip(frame, from, to, IpProtocol.Icmp6, message.Length, HopLimit);
        stack.Wire.Send(frame);
    }
}
