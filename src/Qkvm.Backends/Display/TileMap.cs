using Qkvm.Backends.Display.Encodings;

namespace Qkvm.Backends.Display;

/// <summary>Which tiles of a screen a viewer has not seen yet.</summary>
sealed class TileMap
{
    public const int TileSize = 16;

    int _across, _down;
    bool[] _dirty = [];

    /// <summary>Another screen, all of which is new.</summary>
    public void Resize(int width, int height)
    {
        (_across, _down) = ((width + TileSize - 1) / TileSize, (height + TileSize - 1) / TileSize);
        if (_dirty.Length < _across * _down) _dirty = new bool[_across * _down];
        MarkAll();
    }

    /// <summary>The viewer has seen everything.</summary>
    public bool IsClean => !_dirty.AsSpan(0, _across * _down).Contains(true);

    public void MarkAll() => Array.Fill(_dirty, true);

    public void Mark(int across, int down) => _dirty[down * _across + across] = true;

    /// <summary>All tiles that an area touches.</summary>
    public void Mark(ScreenArea area)
    {
        int right = Math.Min(_across, (area.Right + TileSize - 1) / TileSize),
            bottom = Math.Min(_down, (area.Bottom + TileSize - 1) / TileSize), left = area.X / TileSize;
        if (left >= right) return;
        for (int down = area.Y / TileSize; down < bottom; down++)
            _dirty.AsSpan(down * _across + left, right - left).Fill(true);
    }

    /// <summary>Takes tiles out of the map: a row of them that changed, and those below as far as they changed over the
    /// whole width.</summary>
    /// <param name="wanted">It looks at the tiles that this touches.</param>
    /// <param name="row">Where the last search ended; 0 for the first.</param>
    /// <returns>The area in pixels, which may reach over the screen's edges; false: there is none left.</returns>
    public bool TryTake(ScreenArea wanted, ref int row, out ScreenArea area)
    {
        int left = wanted.X / TileSize, right = Math.Min(_across, (wanted.Right + TileSize - 1) / TileSize),
            bottom = Math.Min(_down, (wanted.Bottom + TileSize - 1) / TileSize);
        for (row = Math.Max(row, wanted.Y / TileSize); row < bottom && left < right; row++)
        {
            Span<bool> tiles = _dirty.AsSpan(row * _across + left, right - left);
            int first = tiles.IndexOf(true);
            if (first < 0) continue;
            int count = tiles[first..].IndexOf(false);
            if (count < 0) count = tiles.Length - first;
            int end = row;
            for (int at = row * _across + left + first; end < bottom; end++, at += _across)
            {
                Span<bool> run = _dirty.AsSpan(at, count);
                if (run.Contains(false)) break;
                run.Clear();
            }
            area = new ScreenArea((left + first) * TileSize, row * TileSize, count * TileSize,
                (end - row) * TileSize);
            return true;
        }
        area = default;
        return false;
    }
}
