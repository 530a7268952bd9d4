namespace Qkvm.Core.Block;

/// <summary>A block node: a protocol (file) or a format (raw, qcow2) over child nodes, as -blockdev stacks
/// them.</summary>
/// <remarks>Positional and safe for many requests at once from worker threads, never under the machine lock. The driver
/// validates ranges: a request beyond <see cref="Length"/> fails with EINVAL. Failures are
/// <see cref="BlockException"/>s with an errno. Buffers are scatter-gather lists over guest RAM: pass them on, slice
/// them, do not copy them.</remarks>
public abstract class BlockDriver : IAsyncDisposable
{
    /// <summary>"file", "raw", "qcow2".</summary>
    public abstract string FormatName { get; }

    /// <summary>node-name; "#block123" style names are made where users give none.</summary>
    public string NodeName { get; init; } = "";

    /// <summary>Bytes; a multiple of 512 for what guests see.</summary>
    public abstract long Length { get; }
    public abstract bool IsReadOnly { get; }

    public abstract ValueTask ReadAsync(long offset, ScatterList buffers);
    public abstract ValueTask WriteAsync(long offset, ScatterList buffers);

    /// <summary>After it completes, everything written before is on stable storage.</summary>
    public abstract ValueTask FlushAsync();

    /// <summary>The contents of the range are no longer needed; afterwards it reads as zeros or as before.</summary>
    public virtual ValueTask DiscardAsync(long offset, long length) => default;

    /// <summary>Afterwards the range reads as zeros.</summary>
    public abstract ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap);

    public abstract ValueTask DisposeAsync();
}

/// <summary>An I/O error as the host named it.</summary>
public sealed class BlockException(string message, int errno) : Exception(message)
{
    public int Errno { get; } = errno;
}
