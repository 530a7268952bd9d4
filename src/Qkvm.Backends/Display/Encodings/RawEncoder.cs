using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>Pixels as they are. Spec: RFC 6143, section 7.7.1.</summary>
sealed class RawEncoder : VncEncoder
{
    public const int RawNumber = 0;

    public override int Number => RawNumber;

    public override void Encode(VncOutput output, FrameBuffer picture, PixelFormat format, ScreenArea area)
    {
        for (int y = area.Y; y < area.Bottom; y++)
            format.Convert(picture.Row(y).Slice(area.X, area.Width), output.Take(area.Width * format.BytesPerPixel));
    }
}
