using Qkvm.Core.Display;

namespace Qkvm.Backends.Display;

/// <summary>Finds what was in a picture already and has moved up or down by whole lines, over the picture's whole
/// width: a text console that scrolls.</summary>
static class ScrollFinder
{
    const int LeastHeight = 64, Farthest = 128, Probes = 8;        // lines

    /// <summary>The lines from <paramref name="top"/> on that moved, and by how many they came from below; false where
    /// none did.</summary>
    /// <param name="changed">The lines that differ, at least as many as the picture has.</param>
    public static bool TryFind(FrameBuffer now, FrameBuffer before, ReadOnlySpan<bool> changed, out int top,
        out int height, out int distance)
    {
        (top, height, distance) = (0, 0, 0);
        int first = changed.IndexOf(true), last = changed.LastIndexOf(true);
        if (first < 0 || last - first < LeastHeight) return false;
        for (int probe = 1; probe < Probes; probe++)
        {
            int line = first + (last - first) * probe / Probes;
            ReadOnlySpan<uint> row = now.Row(line);
            if (!changed[line] || !row.ContainsAnyExcept(row[0])) continue; // a blank one is everywhere
            for (int away = 1; away <= Farthest; away++)
                foreach (int by in (ReadOnlySpan<int>)[away, -away])
                {
                    if (line + by < 0 || line + by >= now.Height || !row.SequenceEqual(before.Row(line + by))) continue;
                    (top, height) = Extend(now, before, line, by);
                    distance = by;
                    if (height >= LeastHeight) return true;
                }
        }
        return false;
    }

    /// <summary>All lines around one that moved as it did.</summary>
    static (int Top, int Height) Extend(FrameBuffer now, FrameBuffer before, int line, int by)
    {
        int top = line, bottom = line + 1;
        while (top > 0 && Moved(top - 1)) top--;
        while (bottom < now.Height && Moved(bottom)) bottom++;
        return (top, bottom - top);

        bool Moved(int y) => y + by >= 0 && y + by < before.Height && now.Row(y).SequenceEqual(before.Row(y + by));
    }
}
