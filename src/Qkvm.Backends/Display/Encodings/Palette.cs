namespace Qkvm.Backends.Display.Encodings;

/// <summary>The colours of an area in the order in which they come, up to a bound.</summary>
sealed class Palette
{
    public const int Most = 256;
    const int Slots = 1024;                                        // a quarter full at most
    const uint Hash = 0x9E37_79B1;                                 // Knuth's multiplier

    readonly uint[] _colors = new uint[Most];
    readonly short[] _slots = new short[Slots];                    // the place in the list, from 1; 0: free

    public int Count { get; private set; }
    public ReadOnlySpan<uint> Colors => _colors.AsSpan(0, Count);

    /// <summary>Returns false where there are more colours than the limit.</summary>
    /// <param name="limit">At most <see cref="Most"/>.</param>
    public bool TryFill(ReadOnlySpan<uint> pixels, int limit)
    {
        Array.Clear(_slots);
        Count = 0;
        uint last = ~pixels[0];
        foreach (uint pixel in pixels)
        {
            if (pixel == last) continue;
            last = pixel;
            ref short slot = ref Slot(pixel);
            if (slot != 0) continue;
            if (Count == limit) return false;
            _colors[Count++] = pixel;
            slot = (short)Count;
        }
        return true;
    }

    /// <summary>The place of a colour that is in it.</summary>
    public int IndexOf(uint color) => Slot(color) - 1;

    ref short Slot(uint color)
    {
        uint at = color * Hash >> 22;
        while (_slots[at] != 0 && _colors[_slots[at] - 1] != color) at = (at + 1) % Slots;
        return ref _slots[at];
    }
}
