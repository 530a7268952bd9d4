using Qkvm.Core.Block;

namespace Qkvm.Storage.Graph;

/// <summary>What is known of bytes of a node and of all that it lies over.</summary>
/// <param name="Depth">The layer that says so: 1 for the node itself, 0 for none.</param>
public readonly record struct ChainStatus(BlockStatus Status, int Depth)
{
    /// <param name="length">At least 1.</param>
    public static async ValueTask<ChainStatus> FindAsync(BlockDriver node, long offset, long length)
    {
        (BlockStatus status, int layer, bool isPastEnd) = await WalkAsync(node, offset, length).ConfigureAwait(false);
        if (status.IsAllocated) return new ChainStatus(status, layer + 1);
        return isPastEnd ? new ChainStatus(BlockStatus.Zero(status.Length), layer + 1)
            : new ChainStatus(BlockStatus.Zero(status.Length, isAllocated: false), 0);
    }

    /// <summary>The same as the image tool has it: what no layer has belongs to the lowest one that was
    /// asked.</summary>
    /// <returns>Layer: 0 for the node itself, 1 for its backing node.</returns>
    public static async ValueTask<(BlockStatus Status, int Layer)> OfImageAsync(BlockDriver node, long offset,
        long length)
    {
        (BlockStatus status, int layer, _) = await WalkAsync(node, offset, length).ConfigureAwait(false);
        return (status.IsAllocated || status.IsZero ? status : BlockStatus.Zero(status.Length, isAllocated: false),
            layer);
    }

    /// <summary>The status from the first layer that has one; past the end of a shorter one all is zeros.</summary>
    static async ValueTask<(BlockStatus Status, int Layer, bool IsPastEnd)> WalkAsync(BlockDriver node, long offset,
        long length)
    {
        for (int layer = 0; ; layer++)
        {
            BlockStatus status = await node.StatusAsync(offset, length).ConfigureAwait(false);
            if (status.IsAllocated || node.Below is not { } below) return (status, layer, false);
            length = Math.Min(length, status.Length);
            if (offset >= below.Length) return (BlockStatus.Zero(length, isAllocated: false), layer, true);
            length = Math.Min(length, below.Length - offset);
            node = below;
        }
    }

    /// <summary>What is known of bytes of a node and of those below it down to a base, without that. What none of them
    /// has is not allocated.</summary>
    /// <param name="end">Null: to the bottom.</param>
    /// <param name="length">At least 1.</param>
    public static async ValueTask<BlockStatus> AboveAsync(BlockDriver node, BlockDriver? end, long offset, long length)
    {
        BlockStatus status = await node.StatusAsync(offset, length).ConfigureAwait(false);
        while (!status.IsAllocated && node.Below is { } below && below != end)
        {
            length = Math.Min(length, status.Length);
            if (offset >= below.Length) return BlockStatus.Zero(length);
            length = Math.Min(length, below.Length - offset);
            status = await below.StatusAsync(offset, length).ConfigureAwait(false);
            node = below;
        }
        return status;
    }
}
