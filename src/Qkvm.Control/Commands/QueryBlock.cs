using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Device">The drive's id.</param>
/// <param name="Qdev">Who uses it; null for nobody.</param>
/// <param name="Inserted">Null without a medium.</param>
public sealed record BlockInfo(string Device, string? Qdev, string Type, bool Removable, bool Locked,
    BlockMediumInfo? Inserted);

/// <param name="File">As it was opened.</param>
/// <param name="Drv">"raw", "qcow2".</param>
public sealed record BlockMediumInfo(string File, string? NodeName, bool Ro, string Drv, BlockCacheInfo Cache,
    BlockImageInfo Image);

public sealed record BlockCacheInfo(bool Writeback, bool Direct, bool NoFlush);

public sealed record BlockImageInfo(string Filename, string Format, long VirtualSize);

/// <param name="Device">Null for all.</param>
public sealed record InfoBlockArguments(string? Device);

static class QueryBlock
{
    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<BlockInfo>>("query-block", BlockJson.Default,
        (context, _) => [.. context.Backends.Drives.Select(d => Describe(context.Backends, d.Key, d.Value))])
    {
        Human = new("info block", "", "show info of all block devices", null,
            (monitor, drives) => { foreach (BlockInfo drive in drives) Print(monitor, drive); }),
    };

    static BlockInfo Describe(MachineBackends backends, string id, BlockBackend drive)
    {
        BlockMediumInfo? medium = drive.Root is not { } root ? null
            : new BlockMediumInfo(drive.Description, root.NodeName.Length > 0 ? root.NodeName
            : null, drive.IsReadOnly, root.FormatName,
                new BlockCacheInfo(drive.WriteCache, false, false),
                    new BlockImageInfo(drive.Description, root.FormatName, root.Length));
        return new BlockInfo(id, backends.OwnerOfDrive(id), "unknown", false, false, medium);
    }

    static void Print(IMonitor monitor, BlockInfo drive)
    {
        if (drive.Inserted is not { } medium) { monitor.Write($"{drive.Device}: [not inserted]\n"); return; }
        monitor.Write($"{drive.Device}{(medium.NodeName == null ? "" : $" ({medium.NodeName})")}: {medium.File} " +
            $"({medium.Drv}{(medium.Ro ? ", read-only" : "")})\n");
        if (drive.Qdev != null) monitor.Write($"    Attached to:      {drive.Qdev}\n");
        monitor.Write($"    Cache mode:       {(medium.Cache.Writeback ? "writeback" : "writethrough")}\n");
    }
}

[JsonSerializable(typeof(IReadOnlyList<BlockInfo>))]
sealed partial class BlockJson : JsonSerializerContext;
