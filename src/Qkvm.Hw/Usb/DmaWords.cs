using System.Buffers.Binary;
using Qkvm.Core.Memory;

namespace Qkvm.Hw.Usb;

/// <summary>Descriptors in guest memory, as 32-bit words.</summary>
static class DmaWords
{
    const int Most = 16;

    /// <summary>False: not all of it is memory.</summary>
    public static bool ReadWords(this Dma dma, uint at, Span<uint> words)
    {
        Span<byte> bytes = stackalloc byte[Most * sizeof(uint)];
        bytes = bytes[..(words.Length * sizeof(uint))];
        if (!dma.Read(at, bytes)) return false;
        for (int i = 0; i < words.Length; i++)
            words[i] = BinaryPrimitives.ReadUInt32LittleEndian(bytes[(i * sizeof(uint))..]);
        return true;
    }

    public static bool WriteWords(this Dma dma, uint at, ReadOnlySpan<uint> words)
    {
        Span<byte> bytes = stackalloc byte[Most * sizeof(uint)];
        for (int i = 0; i < words.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(bytes[(i * sizeof(uint))..], words[i]);
        return dma.Write(at, bytes[..(words.Length * sizeof(uint))]);
    }
}
