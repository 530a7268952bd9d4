using Qkvm.Core.Block;

namespace Qkvm.Storage.Graph;

/// <summary>What is known of bytes of a node and of all that it lies over.</summary>
/// <param name="Depth">The layer that says so: 1 for the node itself, 0 for none.</param>
public readonly record struct ChainStatus(BlockStatus Status, int Depth)
{
    /// <param name="length">At least 1.</param>
    public static async ValueTask<ChainStatus> FindAsync(BlockDriver node, long offset, long length)
    {
        for (int depth = 1; ; depth++)
        {
            BlockStatus status = await node.StatusAsync(offset, length).ConfigureAwait(false);
            if (status.IsAllocated) return new ChainStatus(status, depth);
            length = Math.Min(length, status.Length);
            if (node.Below is not { } below) return new ChainStatus(BlockStatus.Zero(length, isAllocated: false), 0);
            if (offset >= below.Length) return new ChainStatus(BlockStatus.Zero(length), depth);
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
