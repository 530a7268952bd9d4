using Qkvm.Host;

namespace Qkvm.Core.Block;

[Flags]
public enum WriteFlags
{
    None = 0,
    /// <summary>Forced unit access: the data is on stable storage when the write completes.</summary>
    Fua = 1,
}

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

    /// <summary>A driver that has nothing better makes forced unit access of a write and a flush.</summary>
    public virtual ValueTask WriteAsync(long offset, ScatterList buffers, WriteFlags flags)
    {
        ValueTask written = WriteAsync(offset, buffers);
        return (flags & WriteFlags.Fua) == 0 ? written : ThenFlushAsync(written);
    }

    protected async ValueTask ThenFlushAsync(ValueTask written)
    {
        await written.ConfigureAwait(false);
        await FlushAsync().ConfigureAwait(false);
    }

    /// <summary>Starts a request without waiting for anything: on a loop's thread, which others need. False where that
    /// is not possible;
    /// nothing has happened then, but that buffers of a read may hold anything, and a worker thread does it by the
    /// other members.</summary>
    /// <param name="ring">The loop's own, where it has one.</param>
    /// <param name="result">Completes at once or on the loop.</param>
    public virtual bool TryStart(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        return false;
    }

    /// <summary>After it completes, everything written before is on stable storage.</summary>
    public abstract ValueTask FlushAsync();

    /// <summary>The contents of the range are no longer needed; afterwards it reads as zeros or as before.</summary>
    public virtual ValueTask DiscardAsync(long offset, long length) => default;

    /// <summary>Afterwards the range reads as zeros.</summary>
    public abstract ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap);

    /// <summary>What is known of the leading part of a range that is alike; a driver that knows nothing says
    /// data.</summary>
    /// <param name="length">At least 1.</param>
    public virtual ValueTask<BlockStatus> StatusAsync(long offset, long length) => new(BlockStatus.Data(length));

    /// <summary>Moves the end. What is new reads as zeros. No request is in flight.</summary>
    /// <param name="length">Bytes, a multiple of 512.</param>
    public virtual ValueTask ResizeAsync(long length) =>
        throw new BlockException($"a {FormatName} node cannot change its size", ENotSup);

    const int ENotSup = 95;

    public abstract ValueTask DisposeAsync();
}

/// <summary>An I/O error as the host named it.</summary>
public sealed class BlockException(string message, int errno) : Exception(message)
{
    public int Errno { get; } = errno;

    /// <summary>Whatever goes wrong, a request completes: EIO for what has no errno.</summary>
    public static int ErrnoOf(Exception e) => e is BlockException known ? known.Errno : 5;
}
