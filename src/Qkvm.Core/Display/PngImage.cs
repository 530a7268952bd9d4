using System.Buffers.Binary;
using System.IO.Compression;

namespace Qkvm.Core.Display;

/// <summary>A picture as PNG: 8 bits a colour, no alpha, not interlaced. W3C, "Portable Network Graphics
/// Specification", third edition.</summary>
public static class PngImage
{
    const uint Polynomial = 0xEDB88320;                            // of CRC-32, Annex D
    const byte Truecolour = 2, FilterUp = 2;

    static ReadOnlySpan<byte> Signature => [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A];

    public static byte[] Of(FrameBuffer picture) => Of(picture.Pixels, picture.Width, picture.Height);

    /// <param name="pixels">0x00RRGGBB, rows without gaps.</param>
    public static byte[] Of(ReadOnlySpan<uint> pixels, int width, int height)
    {
        var file = new MemoryStream();
        file.Write(Signature);
        Span<byte> header = stackalloc byte[13];                   // and compression, filter and interlace methods 0
        header.Clear();
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header[4..], height);
        (header[8], header[9]) = (8, Truecolour);
        WriteChunk(file, "IHDR"u8, header);
        WriteChunk(file, "IDAT"u8, Packed(pixels, width));
        WriteChunk(file, "IEND"u8, default);
        return file.ToArray();
    }

    /// <summary>Each row is told by its difference to the one above, of which screens have little.</summary>
    static byte[] Packed(ReadOnlySpan<uint> pixels, int width)
    {
        var packed = new MemoryStream();
        using (var zlib = new ZLibStream(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            int bytes = width * 3;
            byte[] above = new byte[bytes], row = new byte[bytes], line = new byte[1 + bytes];
            line[0] = FilterUp;
            for (; pixels.Length > 0; pixels = pixels[width..])
            {
                int at = 0;
                foreach (uint pixel in pixels[..width])
                {
                    row[at++] = (byte)(pixel >> 16);
                    row[at++] = (byte)(pixel >> 8);
                    row[at++] = (byte)pixel;
                }
                for (int i = 0; i < bytes; i++) line[1 + i] = (byte)(row[i] - above[i]);
                zlib.Write(line);
                (above, row) = (row, above);
            }
        }
        return packed.ToArray();
    }

    /// <summary>Length, type, data, and the CRC of the last two.</summary>
    static void WriteChunk(Stream file, ReadOnlySpan<byte> type, ReadOnlySpan<byte> data)
    {
        Span<byte> number = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
        file.Write(number);
        file.Write(type);
        file.Write(data);
        BinaryPrimitives.WriteUInt32BigEndian(number, ~Crc(Crc(uint.MaxValue, type), data));
        file.Write(number);
    }

    static uint Crc(uint crc, ReadOnlySpan<byte> data)
    {
        foreach (byte b in data)
        {
            crc ^= b;
            for (int i = 0; i < 8; i++) crc = crc >> 1 ^ ((crc & 1) != 0 ? Polynomial : 0);
        }
        return crc;
    }
}
