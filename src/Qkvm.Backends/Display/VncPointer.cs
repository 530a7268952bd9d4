using Qkvm.Backends.Display.Encodings;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Display;

/// <summary>A pointer's shape on the wire. Spec: RFC 6143, section 7.8.1; the protocol's community version, "Cursor
/// With Alpha Pseudo-encoding".</summary>
static class VncPointer
{
    const uint HalfSeen = 0x80;                                    // a pixel of at least so much alpha is seen

    /// <summary>What stands behind the rectangle's head.</summary>
    public static void Write(VncOutput output, CursorShape shape, PixelFormat format, bool hasAlpha)
    {
        if (hasAlpha) WriteAlpha(output, shape);
        else WriteMask(output, shape, format);
    }

    /// <summary>Red, green, blue and alpha, the colours multiplied by it, whatever pixels the viewer wants
    /// else.</summary>
    static void WriteAlpha(VncOutput output, CursorShape shape)
    {
        output.Dword(RawEncoder.RawNumber);
        Span<byte> target = output.Take(shape.Pixels.Length * 4);
        for (int i = 0; i < shape.Pixels.Length; i++)
        {
            uint pixel = shape.Pixels[i];
            (target[i * 4], target[i * 4 + 1], target[i * 4 + 2], target[i * 4 + 3]) =
                ((byte)(pixel >> 16), (byte)(pixel >> 8), (byte)pixel, (byte)(pixel >> 24));
        }
    }

    /// <summary>Pixels, and a bit for each that is seen.</summary>
    static void WriteMask(VncOutput output, CursorShape shape, PixelFormat format)
    {
        format.Convert(shape.Pixels, output.Take(shape.Pixels.Length * format.BytesPerPixel));
        int rowBytes = (shape.Width + 7) / 8;
        Span<byte> mask = output.Take(rowBytes * shape.Height);
        mask.Clear();
        for (int i = 0; i < shape.Pixels.Length; i++)
            if (shape.Pixels[i] >> 24 >= HalfSeen)
                mask[i / shape.Width * rowBytes + i % shape.Width / 8] |= (byte)(0x80 >> i % shape.Width % 8);
    }
}
