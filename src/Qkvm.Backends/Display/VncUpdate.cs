using Qkvm.Backends.Display.Encodings;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Display;

/// <summary>The pixels of one FramebufferUpdate: areas are collected with a copy of what they show, then encoded,
/// which may take longer and needs nobody's lock.</summary>
sealed class VncUpdate
{
    const int MaxBytes = 16 << 20, MaxAreas = 60_000;

    readonly FrameBuffer _copy = new();
    readonly List<ScreenArea> _areas = [];
    int _done;

    /// <summary>All areas'.</summary>
    public int Pixels { get; private set; }

    public bool IsFull => _areas.Count >= MaxAreas;

    /// <summary>Those that were not encoded, as the update became too long.</summary>
    public ReadOnlySpan<ScreenArea> Left => System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_areas)[_done..];

    public void Begin(FrameBuffer picture)
    {
        _copy.Resize(picture.Width, picture.Height);
        _areas.Clear();
        (_done, Pixels) = (0, 0);
    }

    public void Add(FrameBuffer picture, ScreenArea area)
    {
        _areas.Add(area);
        Pixels += area.Pixels;
        for (int y = area.Y; y < area.Bottom; y++)
            picture.Row(y).Slice(area.X, area.Width).CopyTo(_copy.Row(y)[area.X..]);
    }

    /// <summary>Any thread, one at a time.</summary>
    /// <returns>The number of rectangles.</returns>
    public int Encode(VncOutput output, VncEncoder encoder, PixelFormat format)
    {
        int rectangles = 0;
        for (; _done < _areas.Count && output.Count < MaxBytes && rectangles < MaxAreas; _done++)
        {
            ScreenArea area = _areas[_done];
            int columns = Math.Min(area.Width, encoder.MaxWidth), rows = Math.Max(1, encoder.MaxPixels / columns);
            for (int y = area.Y; y < area.Bottom; y += rows)
                for (int x = area.X; x < area.Right; x += columns)
                {
                    var part = new ScreenArea(x, y, Math.Min(columns, area.Right - x), Math.Min(rows, area.Bottom - y));
                    output.Rectangle(part, encoder.Number);
                    encoder.Encode(output, _copy, format, part);
                    rectangles++;
                }
        }
        return rectangles;
    }
}
