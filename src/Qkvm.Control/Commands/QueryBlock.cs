using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Control.Qom;
using Qkvm.Core.Block;

namespace Qkvm.Control.Commands;

/// <param name="Device">The drive's id; empty of one that a device has of a node.</param>
/// <param name="Qdev">Who uses it; null for nobody.</param>
/// <param name="IoStatus">Null where errors do not stop the machine.</param>
/// <param name="Inserted">Null without a medium.</param>
public sealed record BlockInfo(string Device, string? Qdev, string Type, bool Removable, bool Locked,
    string? IoStatus, BlockNodeInfo? Inserted)
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
        (context, _) => [.. context.Backends.Drives.Select(d => Describe(context, d.Key, d.Value))])
    {
        Human = new("info block", "", "show info of all block devices", null,
            (monitor, drives) => { foreach (BlockInfo drive in drives) Print(monitor, drive); }),
    };

    static BlockInfo Describe(CommandContext context, string id, BlockBackend drive)
    {
        BlockNodeInfo? medium = drive.Root is { } root ? BlockNodeInfo.Of(root, drive.WriteCache,
            context.Backends.IsOfNode(id) ? null : drive.Description)
            : null;
        string? user = QomTree.UserOf(context, id);
        return new BlockInfo(context.Backends.IsOfNode(id) ? "" : id, user, "unknown", false, false,
            user == null ? null : "ok", medium) { Name = id };
    }

    static void Print(IMonitor monitor, BlockInfo drive)
    {
        if (drive.Inserted is not { } medium) { monitor.Write($"{drive.Name}: [not inserted]\n"); return; }
        string node = medium.NodeName == null || drive.Device == "" ? "" : $" ({medium.NodeName})";
        monitor.Write($"{drive.Name}{node}: {medium.File} "
            + $"({medium.Drv}{(medium.Ro ? ", read-only" : "")})\n");
        if (drive.Qdev != null) monitor.Write($"    Attached to:      {drive.Qdev}\n");
        monitor.Write($"    Cache mode:       {(medium.Cache.Writeback ? "writeback" : "writethrough")}\n");
    }
}

[JsonSerializable(typeof(QueryBlockArguments))]
[JsonSerializable(typeof(IReadOnlyList<BlockInfo>))]
sealed partial class BlockJson : JsonSerializerContext;
