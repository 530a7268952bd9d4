using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Room that the file takes: holes, zeroes, copies without reading, its end.</summary>
public sealed partial class FileDriver
{
    /// <summary>Cuts a file to nothing; a device stays.</summary>
    internal void Clear()
    {
        if (_file.Status.IsBlockDevice) return;
        Check(_file.Truncate(0), "resize");
        _data = null;
        Volatile.Write(ref _length, 0);
    }

    public bool AllowGrowth()
    {
        _mayGrow = true;
        return !_file.Status.IsBlockDevice;
    }

    protected override ValueTask DiscardCore(long offset, long length)
    {
        _data = null;
        long result = _file.Status.IsBlockDevice
            ? _file.DeviceRange(Libc.BlkDiscard, offset, length)
            : _file.Allocate(Libc.FallocPunchHole | Libc.FallocKeepSize, offset, length);
        if (result != -Errno.OpNotSupp) Check(result, "discard");
        return default;
    }

    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap)
    {
        long result = -Errno.OpNotSupp;
        _data = null;
        if (_file.Status.IsBlockDevice)
        {
            if ((offset | length) % 512 == 0) result = _file.DeviceRange(Libc.BlkZeroOut, offset, length);
        }
        else
        {
            if (mayUnmap) result = _file.Allocate(Libc.FallocPunchHole | Libc.FallocKeepSize, offset, length);
            if (result == -Errno.OpNotSupp) result = _file.Allocate(Libc.FallocZeroRange, offset, length);
            if (result >= 0) Refresh();
        }
        if (result is -Errno.OpNotSupp or -Errno.Inval) return WritePlainZeroesAsync(offset, length);
        Check(result, "write zeroes");
        return default;
    }

    public override ValueTask<bool> TryCopyAsync(long offset, BlockDriver source, long sourceOffset, long length,
        bool mayMove)
    {
        if (IsReadOnly || source is not FileDriver from || _file.IsDirect || from._file.IsDirect
            || _file.Status.IsBlockDevice || from._file.Status.IsBlockDevice || sourceOffset + length > from.Length)
            return new(false);
        if (_file.Clone(from._file, sourceOffset, offset, length) < 0)
            for (long done = 0; done < length;)
            {
                if (!mayMove) return new(false);
                long moved = _file.CopyFrom(from._file, sourceOffset + done, offset + done, length - done);
                if (moved <= 0 && done == 0) return new(false);
                if (moved <= 0) Check(moved < 0 ? moved : -Errno.Io, "copy");
                done += moved;
            }
        GrowTo(offset + length);
        return new(true);
    }

    protected override async ValueTask ResizeCore(long length, Preallocation preallocation)
    {
        _data = null;
        if (_file.Status.IsBlockDevice)
            throw new BlockException($"{FileName}: a block device cannot change its size", Errno.OpNotSupp);
        if (preallocation == Preallocation.Metadata)
            throw new BlockException("Unsupported preallocation mode: metadata", Errno.OpNotSupp);
        long old = Length;
        if (preallocation == Preallocation.Falloc && length > old)
            Check(_file.Allocate(0, old, length - old), "preallocate");
        Check(_file.Truncate(length), "resize");
        Volatile.Write(ref _length, length);
        if (preallocation == Preallocation.Full) await WritePlainZeroesAsync(old, length - old).ConfigureAwait(false);
    }

    async ValueTask WritePlainZeroesAsync(long offset, long length)
    {
        for (long done = 0; done < length; done += BounceSize)
            await WriteCore(offset + done, ScatterLists.Zeroes(Math.Min(BounceSize, length - done)))
                .ConfigureAwait(false);
    }

    void GrowTo(long end)
    {
        for (long seen = Length; seen < end; seen = Length) Interlocked.CompareExchange(ref _length, end, seen);
    }

    void Refresh() => GrowTo(Check(_file.Length(), "size"));
}
