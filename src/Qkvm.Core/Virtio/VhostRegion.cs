using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Core.Virtio;

/// <summary>Guest memory that another process can map.</summary>
/// <param name="Address">The guest's.</param>
/// <param name="Offset">In the file.</param>
public readonly record struct VhostRegion(ulong Address, ulong Size, MemoryFile File, ulong Offset)
{
    /// <summary>Peers take no more. Vhost-user protocol, "Memory region description".</summary>
    public const int Most = 8;

    /// <summary>What to do where memory is not shared.</summary>
    public const string Remedy = "give -object memory-backend-memfd,id=mem,size=…,share=on and -machine "
        + "memory-backend=mem";

    /// <summary>The writable RAM that is shared, the largest pieces first.</summary>
    public static VhostRegion[] Of(FlatView view)
    {
        var regions = new List<VhostRegion>();
        foreach (FlatRange range in view.Ranges)
        {
            if (!range.IsWritableRam || range.Ram?.File is not { IsShared: true } file) continue;
            ulong size = range.End - range.Start;
            if (regions.Count > 0 && regions[^1] is var last && last.File == file
                && last.Address + last.Size == range.Start && last.Offset + last.Size == range.RamOffset)
                regions[^1] = last with { Size = last.Size + size };
            else regions.Add(new(range.Start, size, file, range.RamOffset));
        }
        return [.. regions.OrderByDescending(region => region.Size).Take(Most)];
    }

    /// <summary>The machine's own RAM is: that of address 0, since video memory and the like need not be.</summary>
    public static bool IsShared(FlatView view) =>
        view.TryFind(0, out FlatRange first) && first.Ram?.File is { IsShared: true };
}
