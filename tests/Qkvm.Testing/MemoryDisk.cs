using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Testing;

/// <summary>A disk of bytes that records what was asked of it, and can be held up or made to fail.</summary>
public sealed class MemoryDisk(long length) : BlockDriver
{
    const int EInval = 22;

    readonly Lock _lock = new();
    readonly List<string> _log = [];
    TaskCompletionSource? _gate;

    public byte[] Bytes { get; } = new byte[length];

    /// <summary>Errno of every request from now on; 0 for success.</summary>
    public int FailWith { get; set; }

    /// <summary>"read 0+512", "write …", "flush", "discard …", "zero …", in order of execution.</summary>
    public string[] Log { get { lock (_lock) return [.. _log]; } }

    /// <summary>Reads complete at once, as from a page cache.</summary>
    public bool IsCached { get; set; }

    public override bool TryStart(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        if (!IsCached || operation != BlockOperation.Read) return false;
        lock (_lock) buffers.CopyFrom(Bytes.AsSpan((int)offset, (int)buffers.Length));
        return true;
    }

    public override string FormatName => "memory";
    public override long Length => Bytes.Length;
    public override bool IsReadOnly => false;

    /// <summary>Requests wait from now on until <see cref="Release"/>.</summary>
    public void Hold() => _gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Release()
    {
        TaskCompletionSource? gate = _gate;
        _gate = null;
        gate?.SetResult();
    }

    public override async ValueTask ReadAsync(long offset, ScatterList buffers)
    {
        await BeginAsync("read", offset, buffers.Length);
        lock (_lock) buffers.CopyFrom(Bytes.AsSpan((int)offset, (int)buffers.Length));
    }

    public override async ValueTask WriteAsync(long offset, ScatterList buffers)
    {
        await BeginAsync("write", offset, buffers.Length);
        lock (_lock) buffers.CopyTo(Bytes.AsSpan((int)offset, (int)buffers.Length));
    }

    public override async ValueTask FlushAsync() => await BeginAsync("flush", 0, 0);

    public override async ValueTask DiscardAsync(long offset, long length) =>
        await BeginAsync("discard", offset, length);

    public override async ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap)
    {
        await BeginAsync(mayUnmap ? "unmap" : "zero", offset, length);
        lock (_lock) Bytes.AsSpan((int)offset, (int)length).Clear();
    }

    public override ValueTask DisposeAsync() => default;

    async ValueTask BeginAsync(string what, long offset, long length)
    {
        if (_gate is { } gate) await gate.Task;
        lock (_lock) _log.Add(what == "flush" ? what : $"{what} {offset}+{length}");
        if (FailWith != 0) throw new BlockException($"{what} fails", FailWith);
        if (offset < 0 || length < 0 || offset > Length - length)
            throw new BlockException($"{what} beyond the end", EInval);
    }
}
