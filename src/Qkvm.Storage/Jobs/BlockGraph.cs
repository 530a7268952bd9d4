using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>What jobs and snapshots do with the graph: find nodes, hold back their users, put one in the place of
/// another.</summary>
/// <param name="backends">Its drives are users of nodes, and names for them.</param>
/// <param name="change">Runs one change of the graph at a time, on a thread that may wait for disks.</param>
public sealed class BlockGraph(BlockFactory factory, MachineBackends backends,
    Func<Func<ValueTask>, ValueTask> change)
{
    /// <summary>Roles of edges that belong to jobs: they stay with their node.</summary>
    public const string JobSource = "source", JobTarget = "target";

    public BlockFactory Factory => factory;

    public ValueTask ChangeAsync(Func<ValueTask> work) => change(work);

    /// <summary>A node by its name, also one that nobody named, or the medium of a drive.</summary>
    public BlockDriver Find(string name) => TryFind(name)
        ?? throw new CommandException($"Cannot find device='{name}' nor node-name='{name}'");

    BlockDriver? TryFind(string name)
    {
        if (factory.Find(name) is { } named) return named;
        if (name.Length > 0 && backends.Drives.TryGetValue(name, out BlockBackend? drive))
            return drive.Root ?? throw new CommandException($"Device '{name}' has no medium");
        return FindNode(name);
    }

    /// <summary>A node by its own name, also one that nobody named; null for none.</summary>
    public BlockDriver? FindNode(string name)
    {
        if (factory.Find(name) is { } named) return named;
        return backends.Drives.Values.Select(one => one.Root).OfType<BlockDriver>().SelectMany(WithAllBelow)
            .FirstOrDefault(node => node.NodeName == name);
    }

    public static IEnumerable<BlockDriver> WithAllBelow(BlockDriver node) =>
        node.Children.SelectMany(child => WithAllBelow(child.Node)).Prepend(node);

    /// <summary>A node and what it lies over, layer by layer.</summary>
    public static IEnumerable<BlockDriver> Chain(BlockDriver? top)
    {
        for (; top != null; top = top.Below) yield return top;
    }

    /// <summary>Holds back all that use the nodes; with what ends that.</summary>
    public static async ValueTask<Action> PauseAsync(IEnumerable<BlockDriver> nodes)
    {
        Action resume = static () => { };
        try
        {
            foreach (BlockDriver node in nodes.Distinct())
                resume += await ((IBlockUser)node).PauseAsync().ConfigureAwait(false);
        }
        catch
        {
            resume();
            throw;
        }
        return resume;
    }

    /// <summary>Whoever uses a node uses another from now on; jobs, and images over it, stay.</summary>
    public static async ValueTask ReplaceAsync(BlockDriver node, BlockDriver other)
    {
        // Where the other lies over the node, it may not forbid writing to it before all its users have gone.
        IOverlay? over = other.Below == node ? OverlayOf(other) : null;
        over?.SetBacking(null);
        try
        {
            foreach (BlockEdge edge in node.Edges.ToArray())
            {
                if (edge.Role is JobSource or JobTarget || edge.User == other) continue;
                await edge.ReplaceAsync(other).ConfigureAwait(false);
                if (edge.User is BlockBackend drive) drive.Description = BlockFactory.NameOf(other);
            }
        }
        finally { over?.SetBacking(node); }
    }

    /// <summary>Images over a node say again whether it is to stay as it is.</summary>
    public static void Restore(BlockDriver node)
    {
        foreach (BlockEdge edge in node.Edges.ToArray()) edge.Restore();
    }

    /// <summary>A job is going to write to what lies below others, in a way that they do not notice.</summary>
    public static void Relax(BlockDriver node)
    {
        foreach (BlockEdge edge in node.Edges.ToArray())
            if (edge.Role == BlockEdge.Backing) edge.Relax();
    }

    /// <summary>The image over a node in a chain that begins at a top; null: the node is the top.</summary>
    public static BlockDriver? Above(BlockDriver top, BlockDriver node)
    {
        BlockDriver? above = null;
        foreach (BlockDriver layer in Chain(top))
        {
            if (layer == node) return above;
            above = layer;
        }
        throw new CommandException($"'{node.NodeName}' is not in this backing file chain");
    }

    /// <summary>An image lies over a node further down from now on, and says so.</summary>
    public static async ValueTask RebaseAsync(BlockDriver image, BlockDriver? below, string? file)
    {
        IOverlay overlay = OverlayOf(image);
        Action resume = await PauseAsync([image]).ConfigureAwait(false);
        BlockDriver? before = image.Below;
        try
        {
            if (!image.IsReadOnly)
                await overlay.ChangeBackingAsync(file ?? (below == null ? null : BlockFactory.NameOf(below)),
                    below?.FormatName).ConfigureAwait(false);
            overlay.SetBacking(below);
        }
        finally { resume(); }
        await CloseUnusedAsync(before).ConfigureAwait(false);
    }

    public static IOverlay OverlayOf(BlockDriver node) => node as IOverlay
        ?? throw new CommandException($"Format driver '{node.FormatName}' cannot change what an image lies over");

    /// <summary>The job that works with a node, or with an image over it; null for none.</summary>
    public static IBlockUser? JobOver(BlockDriver node)
    {
        foreach (BlockEdge edge in node.Edges)
            if (edge.Role is JobSource or JobTarget) return edge.User;
            else if (edge.User is BlockDriver over && JobOver(over) is { } job) return job;
        return null;
    }

    /// <summary>An image that a job made for itself: what nobody else uses is closed, whatever its name.</summary>
    public async ValueTask DropAsync(BlockDriver made)
    {
        if (made.Edges.Count > 0) return;
        if (made.IsNamed) await factory.RemoveNodeAsync(made.NodeName).ConfigureAwait(false);
        else await made.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>What nobody named and nobody uses any more is closed.</summary>
    public static async ValueTask CloseUnusedAsync(BlockDriver? node)
    {
        if (node is { IsNamed: false, Edges.Count: 0 }) await node.DisposeAsync().ConfigureAwait(false);
    }
}
