using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Qkvm.Core.Block;

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

/// <summary>A node as QMP's BlockDeviceInfo has it.</summary>
/// <param name="File">As it was opened.</param>
/// <param name="Drv">"raw", "qcow2".</param>
public sealed record BlockNodeInfo(string File, string? NodeName, bool Ro, string Drv, bool Encrypted,
    BlockCacheInfo Cache, ImageInfo Image, IReadOnlyList<BlockChildInfo> Children,
    [property: JsonPropertyName("backing_file")] string? BackingFile,
    [property: JsonPropertyName("backing_file_depth")] int BackingFileDepth)
{
    // No node detects zeroes for others, is slowed down or watched.
    [JsonPropertyName("detect_zeroes")] public string DetectZeroes => "off";
    [JsonPropertyName("write_threshold")] public long WriteThreshold => 0;
    public long Bps => 0;
    [JsonPropertyName("bps_rd")] public long BpsRead => 0;
    [JsonPropertyName("bps_wr")] public long BpsWrite => 0;
    public long Iops => 0;
    [JsonPropertyName("iops_rd")] public long IopsRead => 0;
    [JsonPropertyName("iops_wr")] public long IopsWrite => 0;
    public bool Active => true;

    const string Backing = "backing";

    /// <param name="file">What it is called; null for its own name.</param>
    public static BlockNodeInfo Of(BlockDriver node, bool isWriteback = true, string? file = null)
    {
        ImageFacts facts = node.Facts;
        BlockDriver? backing = BackingOf(node);
        int depth = 0;
        for (BlockDriver? below = backing; below != null; below = BackingOf(below)) depth++;
        string name = file ?? NameOf(node);
        return new BlockNodeInfo(name, node.NodeName.Length > 0 ? node.NodeName : null, node.IsReadOnly,
            node.FormatName, false, new BlockCacheInfo(isWriteback, false, false),
            new ImageInfo(name, node.FormatName, node.Length, facts.ActualSize, facts.ClusterSize, facts.IsDirty,
                facts.BackingFile, backing == null ? null : NameOf(backing), facts.BackingFormat,
                facts.Snapshots is { Count: > 0 } all ? [.. all.Select(SnapshotInfo.Of)] : null,
                facts.Specific == null ? null : new FormatSpecificInfo(node.FormatName, facts.Specific)),
            [.. node.Children.Select(child => new BlockChildInfo(child.Node.NodeName, child.Role))],
            backing == null ? null : NameOf(backing), depth);
    }

    static BlockDriver? BackingOf(BlockDriver node) =>
        node.Children.FirstOrDefault(child => child.Role == Backing)?.Node;

    /// <summary>Of what is at the bottom, as formats have no file of their own.</summary>
    static string NameOf(BlockDriver node)
    {
        while (node.Children.FirstOrDefault(child => child.Role == "file")?.Node is { } below) node = below;
        return node.FileName;
    }
}
