using System.Globalization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;

namespace Qkvm.Control.Commands;

/// <summary>info snapshots: the states that images keep, first those that a machine could go back to because every disk
/// that can be written has one of that name.</summary>
static class Snapshots
{
    const string Heading = "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\n";

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
        monitor.Write(common.Length == 0 ? "None\n" : Table(common.Select(s => SnapshotInfo.Of(s with { Id = "--" }))));
        foreach (Disk disk in disks)
            if (disk.All?.Where(s => common.All(c => c.Name != s.Name)).ToArray() is { Length: > 0 } rest)
                monitor.Write($"\nList of partial (non-loadable) snapshots on '{disk.Name}':\n"
                    + Table(rest.Select(SnapshotInfo.Of)));
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

    /// <summary>A line each below the headings; dates are local.</summary>
    public static string Table(IEnumerable<SnapshotInfo> snapshots) => Heading + string.Concat(snapshots.Select(Line));

    static string Line(SnapshotInfo s)
    {
        TimeSpan ran = TimeSpan.FromSeconds(s.VmClockSec);
        string date = DateTimeOffset.FromUnixTimeSeconds(s.DateSec).LocalDateTime
            .ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture);
        string clock = $"{(long)ran.TotalHours:00}:{ran.Minutes:00}:{ran.Seconds:00}.{s.VmClockNsec / 1_000_000:000}";
        string size = ByteCount.Text((long)Math.Min(s.VmStateSize, long.MaxValue));
        return $"{Plain(s.Id),-9} {Plain(s.Name),-16} {size,8}{date,20}{clock,13}{s.Icount,11}\n";
    }

    /// <summary>An image is no friend: what would move the terminal's cursor is not shown.</summary>
    static string Plain(string text) =>
        string.Create(text.Length, text, static (to, from) =>
        {
            for (int i = 0; i < to.Length; i++) to[i] = char.IsControl(from[i]) ? '?' : from[i];
        });
}
