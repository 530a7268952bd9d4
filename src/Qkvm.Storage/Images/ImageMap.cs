using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;

namespace Qkvm.Storage.Images;

/// <summary>What an image and all that lies below it know of its bytes.</summary>
public static class ImageMap
{
    /// <summary>The status of the leading part of a range, from the node of the chain that has it.</summary>
    /// <returns>Depth: 0 for the node itself, 1 for its backing node.</returns>
    public static async ValueTask<(BlockStatus Status, int Depth)> StatusAsync(BlockDriver node, long offset,
        long length)
    {
        for (int depth = 0; ; depth++)
        {
            BlockStatus status = await node.StatusAsync(offset, length).ConfigureAwait(false);
            if (status.IsAllocated || status.IsZero) return (status, depth);
            length = status.Length;
            node = node.Below
                ?? throw new InvalidOperationException($"{node.NodeName}: nothing lies below");
            // A shorter backing node goes on in zeros.
            if (offset >= node.Length) return (BlockStatus.Zero(length, isAllocated: false), depth);
            length = Math.Min(length, node.Length - offset);
        }
    }
}
