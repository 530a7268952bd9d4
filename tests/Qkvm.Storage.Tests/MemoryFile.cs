using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;

namespace Qkvm.Storage.Tests;

/// <summary>A growable file in memory that records its writes and can fail them.</summary>
sealed class MemoryFile(byte[] contents) : BlockDriver, IGrowable
{
    readonly Lock _lock = new();
    byte[] _data = contents;

    public List<(long Offset, byte[]? Data)> Log { get; } = [];    // null data: a flush
    public int WritesUntilError { get; set; } = int.MaxValue;
    public int FailedErrno { get; set; } = 28;
    public bool KeepsLog { get; set; } = true;

    /// <summary>Writes and flushes of several files in their order, each entered under its lock; null: none.</summary>
    public Journal? Journal { get; set; }

    /// <summary>Reads fail with EIO.</summary>
    public bool IsUnreadable { get; set; }

    /// <summary>Bytes: the host's disk is full there.</summary>
    public int Limit { get; set; } = 1 << 30;

    public override string FormatName => "memory";
    public override long Length => _data.Length;
    public override bool IsReadOnly => false;
    public bool AllowGrowth() => true;

    public byte[] Contents { get { lock (_lock) return (byte[])_data.Clone(); } }

    public override ValueTask ReadAsync(long offset, ScatterList buffers)
    {
        if (IsUnreadable) throw new BlockException("memory: injected", 5);
        lock (_lock)
            foreach (Memory<byte> piece in buffers)
            {
                int inside = (int)Math.Clamp(_data.Length - offset, 0, piece.Length);
                if (inside > 0) _data.AsSpan((int)offset, inside).CopyTo(piece.Span);
                piece.Span[inside..].Clear();
                offset += piece.Length;
            }
        return default;
    }

    public override ValueTask WriteAsync(long offset, ScatterList buffers)
    {
        if (offset > Limit - buffers.Length) throw new BlockException("memory: too large", 27);
        var data = new byte[buffers.Length];
        buffers.CopyTo(data);
        lock (_lock)
        {
            if (WritesUntilError-- <= 0) throw new BlockException("memory: injected", FailedErrno);
            if (KeepsLog) Log.Add((offset, data));
            Journal?.Add(this, offset, data);
            Apply(ref _data, offset, data);
        }
        return default;
    }

    public override ValueTask FlushAsync()
    {
        lock (_lock)
        {
            if (KeepsLog) Log.Add((0, null));
            Journal?.Add(this, 0, null);
        }
        return default;
    }

    public override ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap) =>
        length > Limit
        ? throw new BlockException("memory: too large", 27) : WriteAsync(offset, new ScatterList(new byte[length]));

    public override ValueTask DisposeAsync() => default;

    public static void Apply(ref byte[] file, long offset, byte[] data)
    {
        if (offset + data.Length > file.Length) Array.Resize(ref file, (int)(offset + data.Length));
        data.CopyTo(file, offset);
    }
}
