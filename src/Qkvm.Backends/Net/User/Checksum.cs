using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>The Internet checksum of bytes that come in pieces. RFC 1071.</summary>
struct Checksum
{
    ulong _sum;
    bool _isOdd;                                                   // an odd number of bytes so far

    /// <summary>As it stands in a packet. Over a whole packet with a right checksum in it: 0.</summary>
    public readonly ushort Value
    {
        get
        {
            ulong sum = (_sum & 0xFFFF_FFFF) + (_sum >> 32);
            while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
            return (ushort)~BinaryPrimitives.ReverseEndianness((ushort)sum);
        }
    }

    /// <summary>The sum before it is complemented: what stands in the field where the rest is left to others.</summary>
    public readonly ushort Partial => (ushort)~Value;

    public void Add(ReadOnlySpan<byte> bytes)
    {
        ulong sum = Sum(bytes);
        _sum += _isOdd ? BinaryPrimitives.ReverseEndianness((ushort)sum) : sum;
        _isOdd ^= (bytes.Length & 1) != 0;
    }

    public void Add(in ScatterList list)
    {
        foreach (Memory<byte> piece in list) Add(piece.Span);
    }

    /// <summary>Of TCP, UDP and ICMPv6. RFC 9293, section 3.1; RFC 8200, section 8.1.</summary>
    public void AddPseudoHeader(IpAddress source, IpAddress destination, IpProtocol protocol, int length)
    {
        Span<byte> header = stackalloc byte[40];
        header.Clear();
        int size = source.Length;
        source.Write(header);
        destination.Write(header[size..]);
        BinaryPrimitives.WriteInt32BigEndian(header[(2 * size)..], length);
        header[2 * size + 7] = (byte)protocol;
        Add(header[..(2 * size + 8)]);
    }

    /// <summary>Of one piece.</summary>
    public static ushort Of(ReadOnlySpan<byte> bytes)
    {
        var checksum = new Checksum();
        checksum.Add(bytes);
        return checksum.Value;
    }

    /// <summary>Folded to 16 bits, in the order of a little-endian machine.</summary>
    static ulong Sum(ReadOnlySpan<byte> bytes)
    {
        ulong low = 0, high = 0;
        for (; bytes.Length >= 16; bytes = bytes[16..])
        {
            ulong one = BinaryPrimitives.ReadUInt64LittleEndian(bytes),
                two = BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]);
            low += (uint)one + (ulong)(uint)two;
            high += (one >> 32) + (two >> 32);
        }
        for (; bytes.Length >= 2; bytes = bytes[2..]) low += BinaryPrimitives.ReadUInt16LittleEndian(bytes);
        if (bytes.Length > 0) low += bytes[0];
        ulong sum = low + high;
        while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
        return sum;
    }
}
