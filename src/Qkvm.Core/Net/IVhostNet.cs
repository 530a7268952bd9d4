using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Core.Net;

/// <summary>Guest memory that another process can map.</summary>
/// <param name="Address">The guest's.</param>
/// <param name="Offset">In the file.</param>
public readonly record struct VhostRegion(ulong Address, ulong Size, MemoryFile File, ulong Offset)
{
    /// <summary>Peers take no more. Vhost-user protocol, "Memory region description".</summary>
    public const int Most = 8;

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

/// <summary>A virtqueue as the peer learns of it.</summary>
/// <param name="Index">Of the ring, the receiving one of a pair first.</param>
/// <param name="Descriptors">Guest addresses, as the next two.</param>
/// <param name="Position">Where the device goes on, as SET_VRING_BASE says it.</param>
/// <param name="PositionAfterLoss">The same for a peer that follows one that went without a word; null:
/// unknown.</param>
/// <param name="Kick">The driver has given chains.</param>
/// <param name="Call">The driver is to be interrupted.</param>
public sealed record VhostRing(int Index, int Size, ulong Descriptors, ulong DriverArea, ulong DeviceArea,
    uint Position, Func<uint?> PositionAfterLoss, WakeEvent Kick, WakeEvent Call);

/// <summary>A network backend whose peer serves a card's rings by itself, in guest memory. Under the machine
/// lock.</summary>
public interface IVhostNet
{
    /// <summary>Feature bits of rings and frames that the peer knows. Virtio 1.2, sections 5.1.3 and 6.</summary>
    ulong Features { get; }

    bool IsConnected { get; }

    /// <summary>It has gone, or another has come. Any thread.</summary>
    event Action Changed;

    /// <summary>A ring cannot go on: the driver must reset its device. Any thread.</summary>
    event Action<string> Failed;

    /// <summary>DRIVER_OK: what rings then use.</summary>
    void Start(ulong features, IReadOnlyList<VhostRegion> memory);

    void StartRing(VhostRing ring);

    /// <summary>Completes, on any thread, when the peer leaves the ring alone, or has gone.</summary>
    Task StopRingAsync(int index);

    /// <summary>How many pairs of rings are in use.</summary>
    void SetPairs(int pairs);
}
