using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;

namespace Qkvm.Control.Commands;

public sealed record BlockCacheInfo(bool Writeback, bool Direct, bool NoFlush);

/// <param name="VmStateSize">Bytes of the machine's state.</param>
/// <param name="DateSec">Since 1970, UTC.</param>
/// <param name="Icount">Null where instructions were not counted.</param>
public sealed record SnapshotInfo(string Id, string Name, ulong VmStateSize, uint DateSec, uint DateNsec,
    ulong VmClockSec, uint VmClockNsec, ulong? Icount)
{
    const int NanosecondsPerSecond = 1_000_000_000;

    public static SnapshotInfo Of(BlockSnapshot s) => new(s.Id, s.Name, s.VmStateSize, s.Seconds, s.Nanoseconds,
        s.VmClock / NanosecondsPerSecond, (uint)(s.VmClock % NanosecondsPerSecond), s.InstructionCount);

    [JsonIgnore]
    public BlockSnapshot Snapshot => new(Id, Name, VmStateSize, DateSec, DateNsec,
        VmClockSec * NanosecondsPerSecond + VmClockNsec, Icount);
}

/// <param name="VirtualSize">Bytes that the guest sees.</param>
/// <param name="ActualSize">Bytes that it takes on the host.</param>
/// <param name="BackingFilename">As written in the image.</param>
public sealed record ImageInfo(string Filename, string Format, long VirtualSize, long? ActualSize, int? ClusterSize,
    bool? DirtyFlag, string? BackingFilename, string? FullBackingFilename, string? BackingFilenameFormat,
    IReadOnlyList<SnapshotInfo>? Snapshots, FormatSpecificInfo? FormatSpecific);

public sealed record FormatSpecificInfo(string Type, JsonNode Data);

/// <param name="Child">"file", "backing".</param>
public sealed record BlockChildInfo(string NodeName, string Child);

/// <param name="Count">Bytes that are dirty.</param>
/// <param name="Recording">It takes note of writes.</param>
/// <param name="Busy">A job has it.</param>
/// <param name="Inconsistent">True: it can only be removed.</param>
public sealed record BlockDirtyInfo(string Name, long Count, int Granularity, bool Recording, bool Busy,
    bool Persistent, bool? Inconsistent)
{
    /// <summary>Null: there are none.</summary>
    public static IReadOnlyList<BlockDirtyInfo>? Of(BlockDriver node)
    {
        BlockDirtyInfo[] all = [.. node.DirtyBitmaps.Select(bitmap => new BlockDirtyInfo(bitmap.Name, bitmap.Count,
            bitmap.Granularity, bitmap is { IsEnabled: true, IsInconsistent: false }, bitmap.IsBusy,
            bitmap.IsPersistent, bitmap.IsInconsistent ? true : null))];
        return all.Length > 0 ? all : null;
    }
}

/// <summary>A node as QMP's BlockDeviceInfo has it.</summary>
/// <param name="File">As it was opened.</param>
/// <param name="Drv">"raw", "qcow2".</param>
public sealed record BlockNodeInfo(string File, string? NodeName, bool Ro, string Drv, bool Encrypted,
    BlockCacheInfo Cache, ImageInfo Image, IReadOnlyList<BlockChildInfo> Children,
    [property: JsonPropertyName("backing_file")] string? BackingFile,
    [property: JsonPropertyName("backing_file_depth")] int BackingFileDepth)
{
    /// <summary>Null: it has none.</summary>
    public IReadOnlyList<BlockDirtyInfo>? DirtyBitmaps { get; init; }

    // No node detects zeroes for others or is watched.
    [JsonPropertyName("detect_zeroes")] public string DetectZeroes => "off";
    [JsonPropertyName("write_threshold")] public long WriteThreshold => 0;

    /// <summary>Null: nobody slows it down.</summary>
    [JsonIgnore] public ThrottleGroup? Throttle { get; init; }

    public long Bps => Total.Average;
    [JsonPropertyName("bps_rd")] public long BpsRead => Reads.Average;
    [JsonPropertyName("bps_wr")] public long BpsWrite => Writes.Average;
    public long Iops => Requests.Average;
    [JsonPropertyName("iops_rd")] public long IopsRead => ReadRequests.Average;
    [JsonPropertyName("iops_wr")] public long IopsWrite => WriteRequests.Average;
    [JsonPropertyName("bps_max")] public long? BpsMax => Burst(Total);
    [JsonPropertyName("bps_rd_max")] public long? BpsReadMax => Burst(Reads);
    [JsonPropertyName("bps_wr_max")] public long? BpsWriteMax => Burst(Writes);
    [JsonPropertyName("iops_max")] public long? IopsMax => Burst(Requests);
    [JsonPropertyName("iops_rd_max")] public long? IopsReadMax => Burst(ReadRequests);
    [JsonPropertyName("iops_wr_max")] public long? IopsWriteMax => Burst(WriteRequests);
    [JsonPropertyName("bps_max_length")] public long? BpsMaxLength => BurstSeconds(Total);
    [JsonPropertyName("bps_rd_max_length")] public long? BpsReadMaxLength => BurstSeconds(Reads);
    [JsonPropertyName("bps_wr_max_length")] public long? BpsWriteMaxLength => BurstSeconds(Writes);
    [JsonPropertyName("iops_max_length")] public long? IopsMaxLength => BurstSeconds(Requests);
    [JsonPropertyName("iops_rd_max_length")] public long? IopsReadMaxLength => BurstSeconds(ReadRequests);
    [JsonPropertyName("iops_wr_max_length")] public long? IopsWriteMaxLength => BurstSeconds(WriteRequests);
    [JsonPropertyName("iops_size")] public long? IopsSize => Limits is { RequestSize: > 0 and var size } ? size : null;
    public string? Group => Throttle?.Name;
    public bool Active => true;

    ThrottleLimits? Limits => Throttle?.Limits;
    RateLimit Total => Limits?.BytesTotal ?? default;
    RateLimit Reads => Limits?.BytesRead ?? default;
    RateLimit Writes => Limits?.BytesWrite ?? default;
    RateLimit Requests => Limits?.RequestsTotal ?? default;
    RateLimit ReadRequests => Limits?.RequestsRead ?? default;
    RateLimit WriteRequests => Limits?.RequestsWrite ?? default;

    static long? Burst(RateLimit limit) => limit.Burst > 0 ? limit.Burst : null;
    static long? BurstSeconds(RateLimit limit) => limit.Burst > 0 ? limit.BurstSeconds : null;

    /// <param name="file">What it is called; null for its own name.</param>
    public static BlockNodeInfo Of(BlockDriver node, bool isWriteback = true, string? file = null)
    {
        ImageFacts facts = node.Facts;
        BlockDriver? backing = node.Below;
        int depth = 0;
        for (BlockDriver? below = backing; below != null; below = below.Below) depth++;
        string name = file ?? NameOf(node);
        return new BlockNodeInfo(name, node.NodeName.Length > 0 ? node.NodeName : null, node.IsReadOnly,
            node.FormatName, false, new BlockCacheInfo(isWriteback, false, false),
            new ImageInfo(name, node.FormatName, node.Length, facts.ActualSize, facts.ClusterSize, facts.IsDirty,
                facts.BackingFile, backing == null ? null : NameOf(backing), facts.BackingFormat,
                facts.Snapshots is { Count: > 0 } all ? [.. all.Select(SnapshotInfo.Of)] : null,
                facts.Specific == null ? null : new FormatSpecificInfo(node.FormatName, facts.Specific)),
            [.. node.Children.Select(child => new BlockChildInfo(child.Node.NodeName, child.Role))],
            backing == null ? null : NameOf(backing), depth) { DirtyBitmaps = BlockDirtyInfo.Of(node) };
    }

    /// <summary>Of what is at the bottom, as formats have no file of their own.</summary>
    static string NameOf(BlockDriver node)
    {
        while (node.Children.FirstOrDefault(child => child.Role == "file")?.Node is { } below) node = below;
        return node.FileName;
    }
}
