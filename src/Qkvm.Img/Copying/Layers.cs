using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Copying;

/// <summary>An image and those that it lies over, each opened by itself: the one at the bottom can be written while
/// those above are read. That one is opened with what it lies over itself, since a cluster of which a part is written
/// gets the rest from there.</summary>
/// <param name="nodes">The top first.</param>
sealed class Layers(IReadOnlyList<BlockDriver> nodes)
{
    const int MaxChain = 200;

    public BlockDriver Top => nodes[0];
    public BlockDriver Bottom => nodes[^1];

    /// <param name="bottom">The one at the bottom, by its name in the image above it or any other that leads to it from
    /// there; null for the one just below the top.</param>
    public static Layers Open(Tool tool, Arguments arguments, string name, string? bottom, ImageOpening how)
    {
        how = how with { IsWritable = true, IsAlone = true };
        BlockDriver top = tool.Open(arguments, name, how);
        List<BlockDriver> nodes = [top];
        for (BlockDriver node = top; nodes.Count < MaxChain;)
        {
            ImageFacts facts = node.Facts;
            if (facts.BackingFile is not { } file) break;
            string full = BlockFactory.RelativeTo(FileNameOf(node), file);
            bool isBottom = bottom == null || file == bottom || BlockFactory.Identity(full)
                == BlockFactory.Identity(BlockFactory.RelativeTo(FileNameOf(node), bottom));
            try { node = tool.Open(full, how with
                {
                    Format = facts.BackingFormat, IsWritable = isBottom, IsAlone = !isBottom,
                }); }
            catch (Exception e) when (e is ConfigurationException or ToolException)
            {
                string prefix = $"Could not open '{full}': ";      // twice of what is no file
                string why = e.Message.StartsWith(prefix, StringComparison.Ordinal) ? e.Message[prefix.Length..]
                    : e.Message;
                throw new ToolException($"Could not open '{name}': Could not open backing file: {why}");
            }
            nodes.Add(node);
            if (isBottom) return new Layers(nodes);
        }
        throw bottom == null ? new ToolException("Image does not have a backing file")
            : new ToolException($"Did not find '{bottom}' in the backing chain of '{name}'");
    }

    /// <summary>The layer above the bottom that has the bytes from an offset on, or null, and for how long that is
    /// so.</summary>
    public async ValueTask<(BlockDriver? Node, BlockStatus Status)> FindAsync(long at, long length)
    {
        for (int i = 0; i < nodes.Count - 1; i++)
        {
            if (at >= nodes[i].Length) return (null, BlockStatus.Zero(length) with { IsAllocated = i > 0 });
            length = Math.Min(length, nodes[i].Length - at);
            BlockStatus status = await nodes[i].StatusAsync(at, length).ConfigureAwait(false);
            if (status.IsAllocated) return (nodes[i], status);
            length = status.Length;
        }
        return (null, BlockStatus.Below(length));
    }

    static string FileNameOf(BlockDriver node)
    {
        while (node.Children.FirstOrDefault(child => child.Role == "file")?.Node is { } below) node = below;
        return node.FileName;
    }
}
