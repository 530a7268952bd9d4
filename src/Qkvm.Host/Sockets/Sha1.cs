using System.Buffers.Binary;
using System.Numerics;

namespace Qkvm.Host.Sockets;

/// <summary>SHA-1 of a short text, for the handshake of websockets: no secret hangs on it, and a library for it would
/// be needed at run time. Spec: FIPS 180-4, section 6.1.</summary>
static class Sha1
{
    const int Block = 64, Rounds = 80;

    /// <returns>20 bytes.</returns>
    public static byte[] Hash(ReadOnlySpan<byte> data)
    {
        var padded = new byte[(data.Length + 8) / Block * Block + Block];
        data.CopyTo(padded);
        padded[data.Length] = 0x80;
        BinaryPrimitives.WriteUInt64BigEndian(padded.AsSpan(padded.Length - 8), (ulong)data.Length * 8);
        Span<uint> state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0];
        for (int at = 0; at < padded.Length; at += Block) Add(state, padded.AsSpan(at, Block));
        var hash = new byte[20];
        for (int i = 0; i < state.Length; i++) BinaryPrimitives.WriteUInt32BigEndian(hash.AsSpan(i * 4), state[i]);
        return hash;
    }

    static void Add(Span<uint> state, ReadOnlySpan<byte> block)
    {
        Span<uint> words = stackalloc uint[Rounds];
        for (int t = 0; t < Rounds; t++)
            words[t] = t < 16 ? BinaryPrimitives.ReadUInt32BigEndian(block[(t * 4)..])
                : BitOperations.RotateLeft(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16], 1);
        (uint a, uint b, uint c, uint d, uint e) = (state[0], state[1], state[2], state[3], state[4]);
        for (int t = 0; t < Rounds; t++)
        {
            (uint mix, uint constant) = (t / 20) switch
            {
                0 => (b & c ^ ~b & d, 0x5A827999u),
                1 => (b ^ c ^ d, 0x6ED9EBA1u),
                2 => (b & c ^ b & d ^ c & d, 0x8F1BBCDCu),
                _ => (b ^ c ^ d, 0xCA62C1D6u),
            };
            uint next = BitOperations.RotateLeft(a, 5) + mix + e + constant + words[t];
            (a, b, c, d, e) = (next, a, BitOperations.RotateLeft(b, 30), c, d);
        }
        (state[0], state[1], state[2], state[3], state[4]) =
            (state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e);
    }
}
