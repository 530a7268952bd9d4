using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Core.Virtio;

/// <summary>Guest memory that another process can map, or the kernel can use.</summary>
/// <param name="Address">The guest's.</param>
/// <param name="File">What it is mapped over; null for memory of this process alone.</param>
/// <param name="Offset">In the file.</param>
/// <param name="HostAddress">In this process.</param>
public readonly record struct VhostRegion(ulong Address, ulong Size, MemoryFile? File, ulong Offset,
    ulong HostAddress)
{
    /// <summary>Peers take no more. Vhost-user protocol, "Memory region description".</summary>
    public const int Most = 8;

    /// <summary>What to do where memory is not shared.</summary>
    public const string Remedy = "give -object memory-backend-memfd,id=mem,size=…,share=on and -machine "
        + "memory-backend=mem";

    /// <summary>The writable RAM, the largest pieces first.</summary>
    /// <param name="onlyShared">That of this process alone is left out.</param>
    public static VhostRegion[] Of(FlatView view, bool onlyShared = true)
    {
        var regions = new List<VhostRegion>();
        foreach (FlatRange range in view.Ranges)
        {
            if (!range.IsWritableRam || range.Ram is not { } ram || onlyShared && ram.File is not { IsShared: true })
                continue;
            ulong size = range.End - range.Start, host = ram.HostAddress + range.RamOffset;
            if (regions.Count > 0 && regions[^1] is var last && last.File == ram.File
                && last.Address + last.Size == range.Start && last.HostAddress + last.Size == host)
                regions[^1] = last with { Size = last.Size + size };
            else regions.Add(new(range.Start, size, ram.File, range.RamOffset, host));
        }
        return [.. regions.OrderByDescending(region => region.Size).Take(Most)];
    }

    /// <summary>The machine's own RAM is: that of address 0, since video memory and the like need not be.</summary>
    public static bool IsShared(FlatView view) =>
        view.TryFind(0, out FlatRange first) && first.Ram?.File is { IsShared: true };
}
