using System.Buffers.Binary;

namespace Qkvm.Core.Net;

/// <summary>The hash by which cards spread flows over queues: Microsoft, "RSS hashing functions". Each bit of the input
/// that is set adds the 32 bits of the key that begin at its place.</summary>
public sealed class ToeplitzHash
{
    /// <summary>Bytes: two IPv6 addresses and two ports at most, and a key that reaches as far.</summary>
    public const int LongestInput = 36, KeyLength = LongestInput + 4;

    const int Values = 16;                                         // of half a byte

    readonly uint[] _sums = new uint[2 * LongestInput * Values];   // of each half byte's bits, at each place

    /// <param name="key">A shorter one goes on with zeros.</param>
    public ToeplitzHash(ReadOnlySpan<byte> key)
    {
        Span<byte> whole = stackalloc byte[KeyLength + 4];
        whole.Clear();
        key[..Math.Min(key.Length, KeyLength)].CopyTo(whole);
        for (int bit = 0; bit < LongestInput * 8; bit++)
        {
            ulong window = BinaryPrimitives.ReadUInt64BigEndian(whole[(bit / 8)..]);
            uint part = (uint)(window >> (32 - bit % 8));
            int weight = 8 >> bit % 4;
            for (int value = 0; value < Values; value++)
                if ((value & weight) != 0) _sums[bit / 4 * Values + value] ^= part;
        }
    }

    /// <param name="input">In the packet's order of bytes: addresses, then ports, the source's first.</param>
    public uint Of(ReadOnlySpan<byte> input)
    {
        uint hash = 0;
        ReadOnlySpan<uint> sums = _sums;
        foreach (byte value in input)
        {
            hash ^= sums[value >> 4] ^ sums[Values + (value & 15)];
            sums = sums[(2 * Values)..];
        }
        return hash;
    }
}
