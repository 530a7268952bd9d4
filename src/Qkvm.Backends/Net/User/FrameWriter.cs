using System.Buffers.Binary;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

enum EtherType : ushort { Ip4 = 0x0800, Arp = 0x0806, Ip6 = 0x86DD }

/// <summary>Writes the headers of frames for the guest. IEEE 802.3, RFC 791, RFC 8200, RFC 768.</summary>
static class FrameWriter
{
    public const int EthernetLength = 14, UdpLength = 8;

    /// <summary>Ethernet and IP: a payload follows behind them.</summary>
    public const int MaxHeaders = EthernetLength + 40;

    const int DefaultHopLimit = 64;

    public static int HeadersLength(bool isV4) => EthernetLength + IpLength(isV4);

    public static int IpLength(bool isV4) => isV4 ? 20 : 40;

    public static void Ethernet(Span<byte> frame, MacAddress to, MacAddress from, EtherType type)
    {
        to.Write(frame);
        from.Write(frame[MacAddress.Length..]);
        BinaryPrimitives.WriteUInt16BigEndian(frame[12..], (ushort)type);
    }

    /// <summary>Writes an IP header behind Ethernet's; returns where the payload begins in the frame.</summary>
    /// <param name="length">Bytes of payload.</param>
    public static int Ip(Span<byte> frame, IpAddress source, IpAddress destination, IpProtocol protocol, int length,
        byte hopLimit = DefaultHopLimit)
    {
        Span<byte> header = frame[EthernetLength..];
        if (!source.IsV4)
        {
            BinaryPrimitives.WriteUInt32BigEndian(header, 0x6000_0000);
            BinaryPrimitives.WriteUInt16BigEndian(header[4..], (ushort)length);
            header[6] = (byte)protocol;
            header[7] = hopLimit;
            source.Write(header[8..]);
            destination.Write(header[24..]);
            return EthernetLength + 40;
        }
        const ushort versionAndLength = 0x4500, dontFragment = 0x4000;
        BinaryPrimitives.WriteUInt16BigEndian(header, versionAndLength);
        BinaryPrimitives.WriteUInt16BigEndian(header[2..], (ushort)(20 + length));
        BinaryPrimitives.WriteUInt16BigEndian(header[4..], 0);
        BinaryPrimitives.WriteUInt16BigEndian(header[6..], dontFragment);
        header[8] = hopLimit;
        header[9] = (byte)protocol;
        source.Write(header[12..]);
        destination.Write(header[16..]);
        SetIp4Checksum(header[..20]);
        return EthernetLength + 20;
    }

    /// <summary>Over the header's bytes, in its field.</summary>
    public static void SetIp4Checksum(Span<byte> header)
    {
        BinaryPrimitives.WriteUInt16BigEndian(header[10..], 0);
        BinaryPrimitives.WriteUInt16BigEndian(header[10..], Checksum.Of(header));
    }

    /// <summary>The header of a datagram whose data stand behind it already, with the checksum.</summary>
    /// <param name="datagram">Header and data.</param>
    public static void Udp(Span<byte> datagram, IpEndpoint source, IpEndpoint destination)
    {
        BinaryPrimitives.WriteUInt16BigEndian(datagram, source.Port);
        BinaryPrimitives.WriteUInt16BigEndian(datagram[2..], destination.Port);
        BinaryPrimitives.WriteUInt16BigEndian(datagram[4..], (ushort)datagram.Length);
        BinaryPrimitives.WriteUInt16BigEndian(datagram[6..], 0);
        ushort checksum = Payload(datagram, source.Address, destination.Address, IpProtocol.Udp);
        BinaryPrimitives.WriteUInt16BigEndian(datagram[6..], checksum == 0 ? (ushort)0xFFFF : checksum);
    }

    /// <summary>The checksum over a pseudo header and what follows.</summary>
    public static ushort Payload(ReadOnlySpan<byte> payload, IpAddress source, IpAddress destination,
        IpProtocol protocol)
    {
        var checksum = new Checksum();
        checksum.AddPseudoHeader(source, destination, protocol, payload.Length);
        checksum.Add(payload);
        return checksum.Value;
    }
}
