using System.Buffers.Binary;

namespace Qkvm.Backends.Display;

/// <summary>The pixels that a viewer wants, and the way from 0x00RRGGBB to them. Spec: RFC 6143, section 7.4.</summary>
/// <remarks>One table a colour, in the viewer's byte order already: or-ing three entries makes a pixel.</remarks>
sealed class PixelFormat
{
    public const int WireSize = 16;

    /// <summary>What the server offers: 32 bits, little endian, 0x00RRGGBB.</summary>
    public static ReadOnlySpan<byte> ServerFormat => [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

    readonly uint[] _red = new uint[256], _green = new uint[256], _blue = new uint[256];

    readonly int _compactFrom;                                     // of the four bytes, where three suffice

    PixelFormat(int bits, int depth, bool bigEndian, (int Max, int Shift) red, (int Max, int Shift) green,
        (int Max, int Shift) blue)
    {
        BytesPerPixel = CompactBytes = bits / 8;
        uint mask = (uint)red.Max << red.Shift | (uint)green.Max << green.Shift | (uint)blue.Max << blue.Shift;
        if (bits == 32 && depth <= 24 && (mask >> 24 == 0 || (byte)mask == 0))
        {
            CompactBytes = 3;
            _compactFrom = mask >> 24 == 0 == bigEndian ? 1 : 0;
        }
        IsTightRgb = bits == 32 && depth == 24 && red.Max == 255 && green.Max == 255 && blue.Max == 255;
        Fill(_red, red);
        Fill(_green, green);
        Fill(_blue, blue);

        void Fill(uint[] table, (int Max, int Shift) channel)
        {
            for (int c = 0; c < 256; c++)
            {
                uint value = (uint)((long)c * channel.Max + 127) / 255 << channel.Shift;
                table[c] = !bigEndian ? value : bits switch
                {
                    32 => BinaryPrimitives.ReverseEndianness(value),
                    16 => BinaryPrimitives.ReverseEndianness((ushort)value),
                    _ => value,
                };
            }
        }
    }

    public int BytesPerPixel { get; }

    /// <summary>Of a CPIXEL, RFC 6143, section 7.7.5: of a pixel's four bytes the one that says nothing is left
    /// out.</summary>
    public int CompactBytes { get; }

    /// <summary>A TPIXEL, "Tight Encoding": red, green and blue, whatever their order is else.</summary>
    public bool IsTightRgb { get; }

    /// <summary>The viewer wants indices: it is told a colour map in which each index is its own RGB332
    /// colour.</summary>
    public bool NeedsColorMap { get; private init; }

    /// <summary>Null for a format that no screen has.</summary>
    public static PixelFormat? TryParse(ReadOnlySpan<byte> wire)
    {
        int bits = wire[0];
        if (bits is not (8 or 16 or 32)) return null;
        bool bigEndian = wire[2] != 0;
        if (wire[3] == 0)
            return new PixelFormat(bits, bits, bigEndian, (7, 5), (7, 2), (3, 0)) { NeedsColorMap = true };
        var red = Channel(4, 10, wire);
        var green = Channel(6, 11, wire);
        var blue = Channel(8, 12, wire);
        bool fits = Fits(red) && Fits(green) && Fits(blue);
        return fits ? new PixelFormat(bits, wire[1], bigEndian, red, green, blue) : null;

        static (int, int) Channel(int max, int shift, ReadOnlySpan<byte> wire) =>
            (BinaryPrimitives.ReadUInt16BigEndian(wire[max..]), wire[shift]);
        bool Fits((int Max, int Shift) c) => c.Max > 0 && c.Shift < bits && (ulong)c.Max << c.Shift < 1UL << bits;
    }

    /// <summary>Converts pixels; returns the bytes written.</summary>
    public int Convert(ReadOnlySpan<uint> pixels, Span<byte> target)
    {
        int bytes = pixels.Length * BytesPerPixel;
        target = target[..bytes];
        switch (BytesPerPixel)
        {
            case 1:
                for (int i = 0; i < pixels.Length; i++) target[i] = (byte)Of(pixels[i]);
                break;
            case 2:
                for (int i = 0; i < pixels.Length; i++)
                    BinaryPrimitives.WriteUInt16LittleEndian(target[(i * 2)..], (ushort)Of(pixels[i]));
                break;
            default:
                for (int i = 0; i < pixels.Length; i++)
                    BinaryPrimitives.WriteUInt32LittleEndian(target[(i * 4)..], Of(pixels[i]));
                break;
        }
        return bytes;
    }

    /// <summary>Appends CPIXELs.</summary>
    public void ConvertCompact(ReadOnlySpan<uint> pixels, VncOutput output)
    {
        Span<byte> target = output.Take(pixels.Length * CompactBytes);
        if (CompactBytes == BytesPerPixel) { Convert(pixels, target); return; }
        for (int i = 0, at = 0; i < pixels.Length; i++)
        {
            uint value = Of(pixels[i]) >> _compactFrom * 8;
            target[at++] = (byte)value;
            target[at++] = (byte)(value >> 8);
            target[at++] = (byte)(value >> 16);
        }
    }

    /// <summary>Appends TPIXELs.</summary>
    public void ConvertTight(ReadOnlySpan<uint> pixels, VncOutput output)
    {
        if (!IsTightRgb) { Convert(pixels, output.Take(pixels.Length * BytesPerPixel)); return; }
        Span<byte> target = output.Take(pixels.Length * 3);
        for (int i = 0, at = 0; i < pixels.Length; i++)
        {
            target[at++] = (byte)(pixels[i] >> 16);
            target[at++] = (byte)(pixels[i] >> 8);
            target[at++] = (byte)pixels[i];
        }
    }

    uint Of(uint rgb) => _red[(byte)(rgb >> 16)] | _green[(byte)(rgb >> 8)] | _blue[(byte)rgb];

    /// <summary>SetColourMapEntries for all 256 indices, section 7.6.2.</summary>
    public static void WriteColorMap(VncOutput output)
    {
        output.Byte(1);
        output.Byte(0);
        output.Word(0);
        output.Word(256);
        for (int i = 0; i < 256; i++)
        {
            output.Word((i >> 5) * 0xFFFF / 7);
            output.Word((i >> 2 & 7) * 0xFFFF / 7);
            output.Word((i & 3) * 0xFFFF / 3);
        }
    }
}
