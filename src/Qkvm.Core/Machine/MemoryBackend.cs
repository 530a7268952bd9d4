using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>Memory that -object or -mem-path made for the machine, or the machine for itself; who takes it for a board
/// disposes of it.</summary>
/// <param name="IsPreallocated">All pages exist before the guest runs.</param>
/// <param name="IsDumped">Part of the process's core dumps; null leaves it to the machine.</param>
/// <param name="IsMerged">Equal pages may become one; null leaves it to the machine.</param>
public sealed record MemoryBackend(GuestRam Ram, bool IsPreallocated = false, bool? IsDumped = null,
    bool? IsMerged = null) : IDisposable
{
    /// <summary>Bytes.</summary>
    public ulong Size => Ram.Size;

    public void Dispose() => Ram.Dispose();
}
