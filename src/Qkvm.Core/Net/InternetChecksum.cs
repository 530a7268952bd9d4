using System.Buffers.Binary;
using System.Numerics;

namespace Qkvm.Core.Net;

/// <summary>The sum of IP, TCP and UDP: 16-bit words in ones' complement. RFC 1071.</summary>
public static class InternetChecksum
{
    /// <summary>The sum, not complemented, over data that begins at an even place of what is summed; an odd byte at the
    /// end counts as one with a zero behind it.</summary>
    /// <param name="start">Another sum that this one goes on with.</param>
    public static ushort Sum(ReadOnlySpan<byte> data, uint start = 0)
    {
        // Summed in the other byte order, the sum has its bytes in the other order: RFC 1071, section 2 (B).
        ulong sum = 0;
        if (data.Length >= Vector<byte>.Count)
        {
            Vector<ulong> sums = Vector<ulong>.Zero;
            for (; data.Length >= Vector<byte>.Count; data = data[Vector<byte>.Count..])
            {
                Vector<uint> words = Vector.AsVectorUInt32(new Vector<byte>(data));
                Vector.Widen(words, out Vector<ulong> low, out Vector<ulong> high);
                sums += low + high;
            }
            sum = Vector.Sum(sums);
        }
        for (; data.Length >= 4; data = data[4..]) sum += BinaryPrimitives.ReadUInt32LittleEndian(data);
        if (data.Length >= 2)
        {
            sum += BinaryPrimitives.ReadUInt16LittleEndian(data);
            data = data[2..];
        }
        if (data.Length > 0) sum += data[0];
        return Fold((ulong)BinaryPrimitives.ReverseEndianness(Fold(sum)) + start);
    }

    /// <summary>The sum of TCP's or UDP's pseudo-header: addresses, protocol and length. RFC 9293, section 3.1; RFC
    /// 8200, section 8.1.</summary>
    /// <param name="addresses">Source and target, 8 or 32 bytes.</param>
    public static ushort PseudoHeader(ReadOnlySpan<byte> addresses, byte protocol, int length) =>
        Sum(addresses, (uint)(protocol + (length >> 16) + (length & 0xFFFF)));

    /// <summary>What stands in a header: the complement, where zero is written as FFFFh, the same number, because UDP
    /// takes zero for none.</summary>
    public static ushort Complement(ushort sum) => sum == ushort.MaxValue ? sum : (ushort)~sum;

    static ushort Fold(ulong sum)
    {
        while (sum > ushort.MaxValue) sum = (sum & ushort.MaxValue) + (sum >> 16);
        return (ushort)sum;
    }
}
