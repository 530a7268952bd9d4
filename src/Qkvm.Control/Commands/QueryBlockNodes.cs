using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Control.Qom;
using Qkvm.Core.Block;

namespace Qkvm.Control.Commands;

/// <param name="Flat">Without the images that are below others; what is told is flat anyway.</param>
public sealed record NamedBlockNodesArguments(bool Flat = false);

/// <param name="QueryNodes">Of all nodes, and not of disks.</param>
public sealed record BlockStatisticsArguments(bool QueryNodes = false);

/// <summary>QMP's BlockDeviceStats: operations, bytes and nanoseconds.</summary>
public sealed record BlockDeviceStatistics(
    [property: JsonPropertyName("rd_bytes")] long ReadBytes, [property: JsonPropertyName("wr_bytes")] long WriteBytes,
    [property: JsonPropertyName("unmap_bytes")] long UnmapBytes,
    [property: JsonPropertyName("rd_operations")] long ReadOperations,
    [property: JsonPropertyName("wr_operations")] long WriteOperations,
    [property: JsonPropertyName("flush_operations")] long FlushOperations,
    [property: JsonPropertyName("unmap_operations")] long UnmapOperations,
    [property: JsonPropertyName("rd_total_time_ns")] long ReadTime,
    [property: JsonPropertyName("wr_total_time_ns")] long WriteTime,
    [property: JsonPropertyName("flush_total_time_ns")] long FlushTime,
    [property: JsonPropertyName("unmap_total_time_ns")] long UnmapTime,
    [property: JsonPropertyName("wr_highest_offset")] long HighestWritten,
    [property: JsonPropertyName("failed_rd_operations")] long FailedReads,
    [property: JsonPropertyName("failed_wr_operations")] long FailedWrites,
    [property: JsonPropertyName("failed_flush_operations")] long FailedFlushes,
    [property: JsonPropertyName("failed_unmap_operations")] long FailedUnmaps)
{
    // Requests are never merged, and none reaches a disk that is not valid.
    [JsonPropertyName("rd_merged")] public long ReadMerged => 0;
    [JsonPropertyName("wr_merged")] public long WriteMerged => 0;
    [JsonPropertyName("unmap_merged")] public long UnmapMerged => 0;
    [JsonPropertyName("invalid_rd_operations")] public long InvalidReads => 0;
    [JsonPropertyName("invalid_wr_operations")] public long InvalidWrites => 0;
    [JsonPropertyName("invalid_flush_operations")] public long InvalidFlushes => 0;
    [JsonPropertyName("invalid_unmap_operations")] public long InvalidUnmaps => 0;
    [JsonPropertyName("account_invalid")] public bool AccountsInvalid => true;
    [JsonPropertyName("account_failed")] public bool AccountsFailed => true;
    [JsonPropertyName("timed_stats")] public IReadOnlyList<long> Intervals => [];

    public static BlockDeviceStatistics Of(BlockStatistics s) => new(s.Bytes(BlockOperation.Read),
        s.Bytes(BlockOperation.Write) + s.Bytes(BlockOperation.WriteZeroes), s.Bytes(BlockOperation.Discard),
        s.Count(BlockOperation.Read), s.Count(BlockOperation.Write) + s.Count(BlockOperation.WriteZeroes),
        s.Count(BlockOperation.Flush), s.Count(BlockOperation.Discard), s.Time(BlockOperation.Read),
        s.Time(BlockOperation.Write) + s.Time(BlockOperation.WriteZeroes), s.Time(BlockOperation.Flush),
        s.Time(BlockOperation.Discard), s.HighestWritten, s.Failed(BlockOperation.Read),
        s.Failed(BlockOperation.Write) + s.Failed(BlockOperation.WriteZeroes), s.Failed(BlockOperation.Flush),
        s.Failed(BlockOperation.Discard));
}

/// <param name="Device">The drive's id; empty where it is a node's alone, and null of a node.</param>
/// <param name="Parent">What is below it.</param>
public sealed record BlockStatisticsInfo(string? Device, string? NodeName, string? Qdev, BlockDeviceStatistics Stats,
    BlockStatisticsInfo? Parent);

static class QueryBlockNodes
{
    static readonly BlockDeviceStatistics s_none = BlockDeviceStatistics.Of(new BlockStatistics());

    public static readonly Command Command = new Command<NamedBlockNodesArguments, IReadOnlyList<BlockNodeInfo>>(
        "query-named-block-nodes", BlockNodesJson.Default,
        static (context, _) => [.. AllNodes(context).Select(node => BlockNodeInfo.Of(node))]);

    public static readonly Command Statistics = new Command<BlockStatisticsArguments,
        IReadOnlyList<BlockStatisticsInfo>>("query-blockstats", BlockNodesJson.Default,
        static (context, arguments) => arguments.QueryNodes
            ? [.. AllNodes(context).Select(node => Below(node)!)]
            : [.. context.Backends.Drives.Select(drive => OfDrive(context, drive.Key, drive.Value))])
    {
        Human = new("info blockstats", "", "show block device statistics", null, static (monitor, all) =>
        {
            foreach (BlockStatisticsInfo one in all)
            {
                BlockDeviceStatistics s = one.Stats;
                monitor.Write($"{one.Device}: rd_bytes={s.ReadBytes} wr_bytes={s.WriteBytes} "
                    + $"rd_operations={s.ReadOperations} wr_operations={s.WriteOperations} "
                    + $"flush_operations={s.FlushOperations} wr_total_time_ns={s.WriteTime} "
                    + $"rd_total_time_ns={s.ReadTime} flush_total_time_ns={s.FlushTime} rd_merged=0 wr_merged=0 "
                    + "idle_time_ns=0\n");
            }
        }),
    };

    /// <summary>Nodes are counted where disks use them alone.</summary>
    static BlockStatisticsInfo? Below(BlockDriver? node) => node == null ? null : new(null, Named(node), null, s_none,
        Below(node.Children.FirstOrDefault(child => child.Role == "file")?.Node));

    static BlockStatisticsInfo OfDrive(CommandContext context, string id, BlockBackend drive) => new(
        context.Backends.IsOfNode(id) ? "" : id, drive.Root is { } root ? Named(root) : null,
        QomTree.UserOf(context, id), BlockDeviceStatistics.Of(drive.Statistics), Below(drive.Root)?.Parent);

    static string? Named(BlockDriver node) => node.NodeName.Length > 0 ? node.NodeName : null;

    /// <summary>Those with names and those below and above them, each once.</summary>
    public static IEnumerable<BlockDriver> AllNodes(CommandContext context)
    {
        var seen = new HashSet<BlockDriver>();
        var pending = new Stack<BlockDriver>(context.Backends.Drives.Values.Select(d => d.Root).OfType<BlockDriver>()
            .Concat(context.Host.Nodes).Reverse());
        while (pending.TryPop(out BlockDriver? node))
        {
            if (!seen.Add(node)) continue;
            yield return node;
            foreach (BlockEdge child in node.Children.Reverse()) pending.Push(child.Node);
        }
    }
}

[JsonSerializable(typeof(NamedBlockNodesArguments))]
[JsonSerializable(typeof(BlockStatisticsArguments))]
[JsonSerializable(typeof(IReadOnlyList<BlockNodeInfo>))]
[JsonSerializable(typeof(IReadOnlyList<BlockStatisticsInfo>))]
sealed partial class BlockNodesJson : JsonSerializerContext;
