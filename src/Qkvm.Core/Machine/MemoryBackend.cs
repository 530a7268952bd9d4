namespace Qkvm.Core.Machine;

/// <summary>Memory that -object made for -machine memory-backend=.</summary>
/// <param name="Size">Bytes.</param>
/// <param name="IsPreallocated">All pages exist before the guest runs.</param>
/// <param name="IsDumped">Part of the process's core dumps; null leaves it to the machine.</param>
/// <param name="IsMerged">Equal pages may become one; null leaves it to the machine.</param>
public sealed record MemoryBackend(ulong Size, bool IsPreallocated = false, bool? IsDumped = null,
    bool? IsMerged = null);
