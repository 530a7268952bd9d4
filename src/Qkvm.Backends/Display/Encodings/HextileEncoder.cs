using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>The hextile encoding. Spec: RFC 6143, section 7.7.4. Each tile says its own background; a tile that
/// rectangles would make longer than its pixels goes raw.</summary>
sealed class HextileEncoder : VncEncoder
{
    public const int HextileNumber = 5, TileSize = 16;

    const byte Raw = 1, Background = 2, Foreground = 4, AnySubrects = 8, SubrectsColored = 16;

    public override int Number => HextileNumber;

    public override void Encode(VncOutput output, FrameBuffer picture, PixelFormat format, ScreenArea area)
    {
        Span<uint> tile = stackalloc uint[TileSize * TileSize];
        for (int y = area.Y; y < area.Bottom; y += TileSize)
            for (int x = area.X; x < area.Right; x += TileSize)
            {
                var part = new ScreenArea(x, y, Math.Min(TileSize, area.Right - x),
                    Math.Min(TileSize, area.Bottom - y));
                Copy(picture, part, tile);
                Encode(output, tile[..part.Pixels], part.Width, part.Height, format);
            }
    }

    static void Encode(VncOutput output, ReadOnlySpan<uint> tile, int width, int height, PixelFormat format)
    {
        int pixel = format.BytesPerPixel, raw = 1 + tile.Length * pixel;
        (uint background, uint foreground, int colors) = Colors(tile);
        Span<byte> target = output.Take(raw);
        int used = colors == 1 ? 1 + format.Convert([background], target[1..])
            : Subrects(target, tile, width, height, background, foreground, colors == 2, format);
        if (used > 0)
        {
            target[0] =
                (byte)(Background | (colors == 1 ? 0 : AnySubrects | (colors == 2 ? Foreground : SubrectsColored)));
            output.Return(raw - used);
            return;
        }
        target[0] = Raw;
        format.Convert(tile, target[1..]);
    }

    /// <summary>The most frequent of the first two colours, the other, and whether there are one, two or
    /// more.</summary>
    static (uint Background, uint Foreground, int Colors) Colors(ReadOnlySpan<uint> tile)
    {
        uint first = tile[0], second = first;
        int firsts = 0, seconds = 0;
        bool more = false;
        foreach (uint color in tile)
        {
            if (color == first) firsts++;
            else if (seconds == 0 || color == second) (second, seconds) = (color, seconds + 1);
            else more = true;
        }
        if (seconds == 0) return (first, first, 1);
        return firsts >= seconds ? (first, second, more ? 3 : 2) : (second, first, more ? 3 : 2);
    }

    /// <summary>Covers all but the background with rectangles as wide, then as high, as their colour goes.</summary>
    /// <returns>The bytes used, or 0 where raw is not longer.</returns>
    static int Subrects(Span<byte> target, ReadOnlySpan<uint> tile, int width, int height, uint background,
        uint foreground, bool two, PixelFormat format)
    {
        Span<ushort> done = stackalloc ushort[TileSize];           // a bit a pixel
        done.Clear();
        int pixel = format.BytesPerPixel, each = 2 + (two ? 0 : pixel), at = 1 + pixel * (two ? 2 : 1) + 1, count = 0;
        if (at > target.Length) return 0;
        format.Convert([background], target[1..]);
        if (two) format.Convert([foreground], target[(1 + pixel)..]);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
            {
                uint color = tile[y * width + x];
                if (color == background || (done[y] >> x & 1) != 0) continue;
                int w = 1, h = 1;
                while (x + w < width && tile[y * width + x + w] == color && (done[y] >> (x + w) & 1) == 0) w++;
                ushort span = (ushort)(((1 << w) - 1) << x);
                while (y + h < height && (done[y + h] & span) == 0
                    && tile.Slice((y + h) * width + x, w).IndexOfAnyExcept(color) < 0) h++;
                for (int row = y; row < y + h; row++) done[row] |= span;
                if (at + each > target.Length || ++count > 255) return 0;
                if (!two) at += format.Convert([color], target[at..]);
                target[at++] = (byte)(x << 4 | y);
                target[at++] = (byte)((w - 1) << 4 | (h - 1));
            }
        target[1 + pixel * (two ? 2 : 1)] = (byte)count;
        return at;
    }
}
