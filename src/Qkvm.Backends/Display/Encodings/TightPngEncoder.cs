using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>One colour, or a PNG: for browsers, which have a decoder. Spec: the RFB protocol's community version,
/// "Tight PNG Encoding".</summary>
sealed class TightPngEncoder : VncEncoder
{
    public const int TightPngNumber = -260;

    const byte Fill = 0x80, Png = 0xA0;

    uint[] _pixels = [];

    public override int Number => TightPngNumber;

    /// <summary>As of tight: a length has 22 bits.</summary>
    public override int MaxPixels => 1 << 16;

    public override int MaxWidth => 2048;

    public override void Encode(VncOutput output, FrameBuffer picture, PixelFormat format, ScreenArea area)
    {
        if (_pixels.Length < area.Pixels) _pixels = new uint[area.Pixels];
        Span<uint> pixels = _pixels.AsSpan(0, area.Pixels);
        Copy(picture, area, pixels);
        if (!pixels.ContainsAnyExcept(pixels[0]))
        {
            output.Byte(Fill);
            format.ConvertTight(pixels[..1], output);
            return;
        }
        output.Byte(Png);
        int length = output.Count;
        output.Take(TightEncoder.LengthBytes);
        output.Bytes(PngImage.Of(pixels, area.Width, area.Height));
        TightEncoder.PatchLength(output, length);
    }
}
