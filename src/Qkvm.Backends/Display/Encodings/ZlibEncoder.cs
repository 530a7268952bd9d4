using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>Raw pixels through one stream of zlib. Spec: RFB, community version, "Zlib Encoding".</summary>
sealed class ZlibEncoder(int level) : VncEncoder
{
    public const int ZlibNumber = 6;

    readonly DeflateStream _stream = new(level);
    readonly VncOutput _pixels = new();

    public override int Number => ZlibNumber;
    public override int MaxPixels => 1 << 18;                      // bounds what is kept of them

    public override void Encode(VncOutput output, FrameBuffer picture, PixelFormat format, ScreenArea area)
    {
        for (int y = area.Y; y < area.Bottom; y++)
            format.Convert(picture.Row(y).Slice(area.X, area.Width), _pixels.Take(area.Width * format.BytesPerPixel));
        int length = output.Count;
        output.Dword(0);
        _stream.Append(output, _pixels.Pending);
        output.PatchDword(length, output.Count - length - 4);
        _pixels.Clear();
    }

    public override void Dispose() => _stream.Dispose();
}
