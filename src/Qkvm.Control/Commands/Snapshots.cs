using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Control.Commands;

/// <summary>info snapshots: the states that images keep, first those that a machine could go back to because every disk
/// that can be written has one of that name.</summary>
static class Snapshots
{
    public static readonly Command Info = new HumanCommand("info snapshots", "",
        "show the currently saved VM snapshots", static (monitor, words) =>
        {
            words.End();
            Print(monitor, [.. Disks(monitor.Context)]);
        });

    /// <param name="Name">As it is shown; empty of a node's.</param>
    /// <param name="All">Null where the image's format keeps none.</param>
    readonly record struct Disk(string Name, IReadOnlyList<BlockSnapshot>? All)
    {
        public bool Has(string name) => All?.Any(s => s.Name == name) == true;
    }

    static void Print(IMonitor monitor, List<Disk> disks)
    {
        if (disks.Find(disk => disk.All != null).All is not { } first)
        {
            monitor.Write("no block device can store vmstate for snapshot\n");
            return;
        }
        if (disks.All(disk => disk.All is null or []))
        {
            monitor.Write("There is no snapshot available.\n");
            return;
        }
        BlockSnapshot[] common = [.. first.Where(s => disks.All(disk => disk.Has(s.Name)))];
        monitor.Write("List of snapshots present on all disks:\n");
        monitor.Write(common.Length == 0 ? "None\n" : SnapshotTable.Text(common.Select(s => s with { Id = "--" })));
        foreach (Disk disk in disks)
            if (disk.All?.Where(s => common.All(c => c.Name != s.Name)).ToArray() is { Length: > 0 } rest)
                monitor.Write($"\nList of partial (non-loadable) snapshots on '{disk.Name}':\n"
                    + SnapshotTable.Text(rest));
    }

    /// <summary>What the guest, or whoever gets the node, may write: disks, then nodes on top that none has.</summary>
    static IEnumerable<Disk> Disks(CommandContext context)
    {
        var seen = new HashSet<BlockDriver>();
        foreach (BlockDrive drive in BlockDrive.All(context))
            if (drive.Backend.Root is { } root && seen.Add(root) && !root.IsReadOnly)
                yield return new(drive.OwnName, Of(root));
        foreach (BlockDriver node in QueryBlockNodes.AllNodes(context))
            seen.UnionWith(node.Children.Select(child => child.Node));
        foreach (BlockDriver node in context.Host.Nodes)
            if (!node.IsReadOnly && !seen.Contains(node)) yield return new("", Of(node));
    }

    /// <summary>A format without may lie over one that keeps them.</summary>
    static IReadOnlyList<BlockSnapshot>? Of(BlockDriver? node)
    {
        for (; node != null; node = node.Children is [{ Role: "file" } only] ? only.Node : null)
            if (node.Facts.Snapshots is { } all) return all;
        return null;
    }
}
