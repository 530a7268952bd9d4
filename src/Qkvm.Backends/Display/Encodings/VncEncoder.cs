using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>A part of a picture.</summary>
readonly record struct ScreenArea(int X, int Y, int Width, int Height)
{
    public int Pixels => Width * Height;
    public int Right => X + Width;
    public int Bottom => Y + Height;
}

/// <summary>One way to put pixels on the wire, of one viewer: some streams go on from update to update.</summary>
abstract class VncEncoder : IDisposable
{
    /// <summary>As RFC 6143, section 7.7, and its registry number them.</summary>
    public abstract int Number { get; }

    /// <summary>A larger area is sent in parts.</summary>
    public virtual int MaxPixels => int.MaxValue;

    /// <summary>And so is a wider one.</summary>
    public virtual int MaxWidth => ushort.MaxValue;

    /// <summary>0 to 9: how well pictures are to look, where they need not be exact; null: they must be.</summary>
    public int? Quality { protected get; set; }

    /// <summary>The area's pixels, behind its rectangle's head.</summary>
    public abstract void Encode(VncOutput output, FrameBuffer picture, PixelFormat format, ScreenArea area);

    public virtual void Dispose() { }

    /// <summary>Rows without gaps.</summary>
    protected static void Copy(FrameBuffer picture, ScreenArea area, Span<uint> target)
    {
        for (int y = 0; y < area.Height; y++)
            picture.Row(area.Y + y).Slice(area.X, area.Width).CopyTo(target[(y * area.Width)..]);
    }
}

/// <summary>An encoding that there is.</summary>
/// <param name="Create">Takes the level of compression that the viewer wants, 0 to 9.</param>
sealed record VncEncoding(int Number, Func<int, VncEncoder> Create)
{
    /// <summary>Deflate's fastest: links that are slow enough for more are rare, and viewers can ask.</summary>
    public const int DefaultLevel = 1;

    /// <summary>All.</summary>
    public static readonly VncEncoding[] Catalogue =
    [
        new(RawEncoder.RawNumber, static _ => new RawEncoder()),
        new(HextileEncoder.HextileNumber, static _ => new HextileEncoder()),
        new(ZlibEncoder.ZlibNumber, static level => new ZlibEncoder(level)),
        new(TightEncoder.TightNumber, static level => new TightEncoder(level)),
        new(TightPngEncoder.TightPngNumber, static _ => new TightPngEncoder()),
        new(ZrleEncoder.ZrleNumber, static level => new ZrleEncoder(level)),
    ];
}
