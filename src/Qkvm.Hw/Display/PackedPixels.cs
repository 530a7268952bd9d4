using System.Buffers.Binary;
using System.Numerics;

namespace Qkvm.Hw.Display;

/// <summary>Pixels of linear framebuffers, little endian, blue in the lowest bits.</summary>
static class PackedPixels
{
    const uint Colors = 0xFFFFFF;
    static readonly Vector<uint> s_colors = new(Colors);

    /// <summary>Bytes that a pixel takes.</summary>
    public static int Size(int bits) => (bits + 7) / 8;

    /// <param name="pixels">Become 0x00RRGGBB.</param>
    /// <param name="source">As many pixels.</param>
    /// <param name="bits">15, 16, 24 or 32.</param>
    public static void Unpack(Span<uint> pixels, ReadOnlySpan<byte> source, int bits)
    {
        switch (bits)
        {
            case 15:
                for (int x = 0; x < pixels.Length; x++)
                    pixels[x] = From15(BinaryPrimitives.ReadUInt16LittleEndian(source[(x * 2)..]));
                break;
            case 16:
                for (int x = 0; x < pixels.Length; x++)
                    pixels[x] = From16(BinaryPrimitives.ReadUInt16LittleEndian(source[(x * 2)..]));
                break;
            case 24:
                for (int x = 0; x < pixels.Length; x++)
                    pixels[x] = source[x * 3] | (uint)source[x * 3 + 1] << 8 | (uint)source[x * 3 + 2] << 16;
                break;
            default:
                int done = 0;
                for (; done <= pixels.Length - Vector<uint>.Count; done += Vector<uint>.Count)
                    (Vector.AsVectorUInt32(new Vector<byte>(source[(done * 4)..])) & s_colors).CopyTo(pixels[done..]);
                for (; done < pixels.Length; done++)
                    pixels[done] = BinaryPrimitives.ReadUInt32LittleEndian(source[(done * 4)..]) & Colors;
                break;
        }
    }

    static uint From15(uint c) => Wide5(c >> 10) << 16 | Wide5(c >> 5) << 8 | Wide5(c);
    static uint From16(uint c) => Wide5(c >> 11) << 16 | ((c >> 5 & 63) << 2 | (c >> 9 & 3)) << 8 | Wide5(c);
    static uint Wide5(uint c) => (c & 31) << 3 | (c >> 2 & 7);
}
