namespace Qkvm.Core.Block;

/// <summary>What a node knows of a run of its bytes without reading them.</summary>
/// <param name="Length">Bytes, from the offset that was asked for.</param>
/// <param name="IsData">They may be anything.</param>
/// <param name="IsZero">They read as zeros.</param>
/// <param name="IsAllocated">This node says what they are; else what lies below it does.</param>
public readonly record struct BlockStatus(long Length, bool IsData, bool IsZero, bool IsAllocated)
{
    /// <summary>The node below that has the bytes as they are, from <see cref="HostOffset"/> on; null for
    /// none.</summary>
    public BlockDriver? HostNode { get; init; }
    public long HostOffset { get; init; }
    public bool IsCompressed { get; init; }

    public static BlockStatus Data(long length) => new(length, true, false, true);
    public static BlockStatus Zero(long length, bool isAllocated = true) => new(length, false, true, isAllocated);
    public static BlockStatus Below(long length) => new(length, false, false, false);
}
