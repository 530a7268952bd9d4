using Qkvm.Host;

namespace Qkvm.Core.Memory;

/// <summary>One piece of a flattened address space: bytes [Start, End) show <see cref="Region"/> from
/// <see cref="Offset"/> on.</summary>
/// <param name="ReadsBank">Of a ROM: it is no memory now.</param>
public readonly record struct FlatRange(ulong Start, ulong End, MemoryRegion Region, ulong Offset, bool ReadOnly,
    bool ReadsBank = false)
{
    /// <summary>What plain reads reach; null for registers.</summary>
    public GuestRam? Ram => ReadsBank ? null : Region.Ram;

    /// <summary>The offset in <see cref="Ram"/> of <see cref="Start"/>.</summary>
    public ulong RamOffset => Region.RamOffset + Offset;

    /// <summary>Plain writes reach RAM.</summary>
    public bool IsWritableRam => Region.Kind == RegionKind.Ram && !ReadOnly;

    /// <summary>Rings the doorbell at an offset of the region, if there is one for the value.</summary>
    public bool TryRing(ulong offset, ulong value)
    {
        if (Region.Doorbells is not { } places) return false;
        foreach (DoorbellPlace place in places)
        {
            if (place.Offset != offset || place.Value is { } wanted && wanted != value) continue;
            place.Doorbell.Ring();
            return true;
        }
        return false;
    }
}

/// <summary>What an address space shows: sorted, disjoint ranges. Immutable; readers need no lock.</summary>
public sealed class FlatView
{
    readonly FlatRange[] _ranges;

    FlatView(FlatRange[] ranges) => _ranges = ranges;

    public ReadOnlySpan<FlatRange> Ranges => _ranges;

    public static FlatView Of(MemoryRegion root)
    {
        var ranges = new List<FlatRange>();
        Render(ranges, root, 0, 0, root.Size, false, 0);
        return new FlatView([.. ranges]);
    }

    /// <summary>The range that covers an address, or false where nothing answers.</summary>
    public bool TryFind(ulong address, out FlatRange range)
    {
        int low = 0, high = _ranges.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            ref readonly FlatRange r = ref _ranges[middle];
            if (address < r.Start) high = middle - 1;
            else if (address >= r.End) low = middle + 1;
            else { range = r; return true; }
        }
        range = default;
        return false;
    }

    /// <summary>Shows [from, to) of a region, region coordinates, at region offset 0 = address
    /// <paramref name="origin"/> (wrapping arithmetic: an alias may begin before its window).</summary>
    static void Render(List<FlatRange> ranges, MemoryRegion region, ulong origin, ulong from, ulong to, bool readOnly,
        int depth)
    {
        if (!region.Enabled || from >= to || depth > 32) return;
        readOnly |= region.ReadOnly;
        switch (region.Kind)
        {
            case RegionKind.Alias:
                ulong shift = region.TargetOffset;
                ulong end = Math.Min(to + shift, region.Target!.Size);
                Render(ranges, region.Target, origin - shift, from + shift, end, readOnly, depth + 1);
                break;
            case RegionKind.Container:
                foreach (MemoryRegion child in region.Children)
                {
                    ulong childEnd = child.Size > ulong.MaxValue - child.Address ? ulong.MaxValue
                        : child.Address + child.Size;
                    ulong low = Math.Max(from, child.Address), high = Math.Min(to, childEnd);
                    if (low < high)
                        Render(ranges, child, origin + child.Address, low - child.Address, high - child.Address,
                            readOnly, depth + 1);
                }
                break;
            default:
                Fill(ranges, new FlatRange(origin + from, origin + to, region, from, readOnly
                    || region.Kind == RegionKind.Rom, region.ReadsBank));
                break;
        }
    }

    /// <summary>Adds the parts of a range that nothing of higher priority covers yet.</summary>
    static void Fill(List<FlatRange> ranges, FlatRange wanted)
    {
        ulong at = wanted.Start;
        int i = 0;
        while (at < wanted.End)
        {
            while (i < ranges.Count && ranges[i].End <= at) i++;
            if (i < ranges.Count && ranges[i].Start <= at) { at = ranges[i].End; continue; }
            ulong end = i < ranges.Count ? Math.Min(wanted.End, ranges[i].Start) : wanted.End;
            ranges.Insert(i, wanted with { Start = at, End = end, Offset = wanted.Offset + (at - wanted.Start) });
            at = end;
        }
    }
}
