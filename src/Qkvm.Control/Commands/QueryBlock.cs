using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Throttling;

namespace Qkvm.Control.Commands;

/// <param name="Device">The drive's id; empty of one that a device has of a node.</param>
/// <param name="Qdev">Who uses it; null for nobody.</param>
/// <param name="TrayOpen">Null of what has no tray.</param>
/// <param name="IoStatus">Null where errors do not stop the machine.</param>
/// <param name="Inserted">Null without a medium.</param>
public sealed record BlockInfo(string Device, string? Qdev, string Type, bool Removable, bool Locked,
    [property: JsonPropertyName("tray_open")] bool? TrayOpen, string? IoStatus, BlockNodeInfo? Inserted)
{
    /// <summary>For the human monitor alone.</summary>
    [JsonIgnore] public string Name { get; init; } = Device;
}

/// <param name="Flat">Without the images that are below others; what is told is flat anyway.</param>
public sealed record QueryBlockArguments(bool Flat = false);

static class QueryBlock
{
    public static readonly Command Command = new Command<QueryBlockArguments,
        IReadOnlyList<BlockInfo>>("query-block", BlockJson.Default,
        (context, _) => [.. BlockDrive.All(context).Select(Describe)]);

    public static readonly Command Info = new HumanCommand("info block", "[-n] [-v] [device]",
        "show info of one block device or all block devices (-n: show named nodes; -v: show details)",
        static (monitor, words) =>
        {
            string flags = words.Flags("nv");
            string? wanted = words.Optional();
            words.End();
            if (!flags.Contains('n'))
                Print(monitor, BlockDrive.All(monitor.Context).Select(Describe)
                    .Where(drive => wanted == null || drive.Name == wanted || drive.Inserted?.NodeName == wanted),
                    flags.Contains('v'));
            else
                Print(monitor, QueryBlockNodes.AllNodes(monitor.Context).Select(node => BlockNodeInfo.Of(node))
                    .Where(node => wanted == null || node.NodeName == wanted)
                    .Select(node => new BlockInfo("", null, "", false, false, null, null, node)
                        { Name = node.NodeName ?? node.File }), flags.Contains('v'));
        }) { Completes = [Completions.Drives] };

    static BlockInfo Describe(BlockDrive drive)
    {
        BlockBackend backend = drive.Backend;
        BlockNodeInfo? medium = backend.Root is { } root ? BlockNodeInfo.Of(root, backend.WriteCache,
            drive.OwnName.Length == 0 ? null : backend.Description) with { Throttle = backend.Throttle?.Group } : null;
        return new BlockInfo(drive.OwnName, drive.User, "unknown", drive.IsRemovable, drive.Tray?.IsLocked == true,
            drive.Tray?.IsTrayOpen, drive.User == null ? null : Status(backend.Errors.Waiting), medium)
            { Name = drive.Name };
    }

    /// <param name="errno">Of the request that waits for the machine to go on.</param>
    static string Status(int errno) => errno == 0 ? "ok" : BlockErrors.IsNoSpace(errno) ? "nospace" : "failed";

    /// <summary>An empty line between two.</summary>
    static void Print(IMonitor monitor, IEnumerable<BlockInfo> drives, bool isVerbose)
    {
        bool isFirst = true;
        foreach (BlockInfo drive in drives)
        {
            if (!isFirst) monitor.Write("\n");
            Print(monitor, drive);
            if (isVerbose && drive.Inserted is { } medium) Print(monitor, medium.Image);
            isFirst = false;
        }
    }

    static void Print(IMonitor monitor, BlockInfo drive)
    {
        string node = drive.Inserted?.NodeName is { } name && name != drive.Name ? $" ({name})" : "";
        monitor.Write(drive.Inserted is not { } medium ? $"{drive.Name}: [not inserted]\n"
            : $"{drive.Name}{node}: {medium.File} ({medium.Drv}{(medium.Ro ? ", read-only" : "")})\n");
        if (drive.Qdev != null) monitor.Write($"    Attached to:      {drive.Qdev}\n");
        if (drive.Removable)
            monitor.Write($"    Removable device: {(drive.Locked ? "" : "not ")}locked, "
                + $"tray {(drive.TrayOpen == true ? "open" : "closed")}\n");
        if (drive.Inserted is not { } image) return;
        monitor.Write($"    Cache mode:       {(image.Cache.Writeback ? "writeback" : "writethrough")}"
            + $"{(image.Cache.Direct ? ", direct" : "")}\n");
        if (image.BackingFile != null)
            monitor.Write($"    Backing file:     {image.BackingFile} (chain depth: {image.BackingFileDepth})\n");
        if (image.Throttle?.Limits is not { } limits) return;
        monitor.Write($"    I/O throttling:   {Text("bps", limits.BytesTotal, limits.BytesRead, limits.BytesWrite)} "
            + $"{Text("iops", limits.RequestsTotal, limits.RequestsRead, limits.RequestsWrite)} "
            + $"iops_size={limits.RequestSize} group={image.Group}\n");
    }

    static string Text(string what, RateLimit total, RateLimit reads, RateLimit writes) =>
        $"{what}={total.Average} {what}_rd={reads.Average} {what}_wr={writes.Average} "
        + $"{what}_max={total.Burst} {what}_rd_max={reads.Burst} {what}_wr_max={writes.Burst}";

    static void Print(IMonitor monitor, ImageInfo image) => monitor.Write("\nImages:\n" + new ImageDescription(
        image.Filename, image.Format, image.VirtualSize, new ImageFacts(image.ActualSize, image.ClusterSize,
            image.BackingFilename, image.BackingFilenameFormat, image.DirtyFlag == true,
            image.FormatSpecific?.Data as JsonObject, image.Snapshots?.Select(s => s.Snapshot).ToArray()),
        image.FullBackingFilename));
}

[JsonSerializable(typeof(QueryBlockArguments))]
[JsonSerializable(typeof(IReadOnlyList<BlockInfo>))]
sealed partial class BlockJson : JsonSerializerContext;
