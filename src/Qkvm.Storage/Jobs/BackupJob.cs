using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>blockdev-backup: a copy of a disk as it is when the job starts. What is about to be overwritten is copied
/// first.</summary>
/// <param name="bitmap">What has changed since the last backup, for an incremental one.</param>
/// <param name="graph">Closes a target that was made for it.</param>
sealed class BackupJob(BackupRequest request, BlockGraph graph, BlockDriver source, BlockDriver target, IBitmap? bitmap)
    : CopyJob(JobType.Backup, request.Job, request.Errors), IWriteObserver
{
    const int MinCluster = 64 << 10, IdleMilliseconds = 1000;

    readonly int _cluster = Math.Max(MinCluster, target.Facts.ClusterSize ?? 0);
    readonly RangeLock _copying = new();
    readonly ICompressedWrites? _compressed = !request.IsCompressed ? null : target as ICompressedWrites
        ?? throw new CommandException("Compression is not supported for this drive");
    DirtyBitmap? _left, _wanted;                                   // to be copied, and what that was at first
    volatile Exception? _failure;                                  // of a copy that a write waited for

    /// <summary>While nobody writes to the source.</summary>
    public async ValueTask PrepareAsync()
    {
        _left = new DirtyBitmap("", BitOperations.Log2((uint)_cluster), source.Length);
        if (bitmap != null)
        {
            _wanted = new DirtyBitmap("", BitOperations.Log2((uint)bitmap.Granularity), source.Length);
            _wanted.Join(bitmap);
        }
        if (request.Scope == CopyScope.Bitmap) _left.Join(bitmap!);
        else if (request.Scope == CopyScope.Top) await MarkTopAsync().ConfigureAwait(false);
        else _left.Set(0, source.Length);
        await target.SetReadOnlyAsync(false).ConfigureAwait(false);
        Use(source, BlockGraph.JobSource, BlockRights.ConsistentRead);
        Use(target, BlockGraph.JobTarget, BlockRights.ConsistentRead | BlockRights.Write);
        source.Follow(this);
        if (bitmap == null) return;
        bitmap.IsBusy = true;
        if (request.BitmapMode != BitmapMode.Never) bitmap.Clear();
    }

    /// <summary>Others that belonged to it failed: as if it had never been.</summary>
    public ValueTask ForgetAsync() => CleanAsync(hasFailed: true);

    async ValueTask MarkTopAsync()
    {
        for (long offset = 0; offset < source.Length;)
        {
            BlockStatus status = await source.StatusAsync(offset, source.Length - offset).ConfigureAwait(false);
            if (status.IsAllocated) _left!.Set(offset, status.Length);
            offset += status.Length;
        }
    }

    public async ValueTask BeforeAsync(long offset, long length)
    {
        if (_failure != null) return;
        try { await CopyLeftAsync(offset, length).ConfigureAwait(false); }
        catch (Exception e) when (e is BlockException or TargetException)
        {
            _failure = e;                                          // the guest goes on, the copy is worth nothing
            Wake();
        }
    }

    public ValueTask AfterAsync(long offset, long length) => default;

    protected override async Task RunAsync()
    {
        Expect(request.Scope == CopyScope.None ? source.Length : Math.Min(_left!.Count, source.Length));
        while (request.Scope == CopyScope.None)
        {
            await SleepAsync(IdleMilliseconds).ConfigureAwait(false);
            await PausePointAsync().ConfigureAwait(false);
            if (_failure != null) throw _failure;
        }
        for (long at = _left!.NextDirty(0); at >= 0; at = _left.NextDirty(at))
        {
            if (_failure != null) throw _failure;
            long end = _left.NextClean(at) is >= 0 and var clean ? clean : source.Length;
            long length = Math.Min(Math.Min(end, source.Length) - at, Math.Max(Piece, _cluster));
            if (!await TryAsync(() => CopyLeftAsync(at, length)).ConfigureAwait(false)) _left.Reset(at, length);
            await SpendAsync(length).ConfigureAwait(false);
        }
        await target.FlushAsync().ConfigureAwait(false);
        if (_failure != null) throw _failure;
    }

    /// <summary>Copies what of a range has not been copied, in whole clusters.</summary>
    async ValueTask CopyLeftAsync(long offset, long length)
    {
        long start = offset / _cluster * _cluster;
        long end = Math.Min((offset + length + _cluster - 1) / _cluster * _cluster, source.Length);
        LinkedListNode<RangeLock.Hold> hold = await _copying.AcquireAsync(start, end, exclusive: true)
            .ConfigureAwait(false);
        byte[] buffer = System.Buffers.ArrayPool<byte>.Shared.Rent((int)Math.Min(end - start, Piece));
        try
        {
            int most = _compressed != null ? _cluster : Math.Max(Piece / _cluster, 1) * _cluster;
            if (buffer.Length < Math.Min(most, end - start)) buffer = new byte[most];
            for (long at = start; at < end;)
            {
                at = _left!.NextDirty(at);
                if (at < 0 || at >= end) return;
                long clean = _left.NextClean(at) is >= 0 and var next ? next : end;
                int count = (int)Math.Min(Math.Min(clean, end) - at, most);
                Memory<byte> data = buffer.AsMemory(0, count);
                if (_compressed == null) await CopyAsync(source, target, at, data).ConfigureAwait(false);
                else await CompressAsync(at, data).ConfigureAwait(false);
                _left.Reset(at, count);
                at += count;
            }
        }
        finally
        {
            _copying.Release(hold);
            if (buffer.Length <= Piece) System.Buffers.ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    async ValueTask CompressAsync(long at, Memory<byte> data)
    {
        await source.ReadAsync(at, new ScatterList(data)).ConfigureAwait(false);
        try { await _compressed!.WriteCompressedAsync(at, new ScatterList(data)).ConfigureAwait(false); }
        catch (BlockException e) { throw new TargetException(e); }
    }

    protected override async ValueTask CleanAsync(bool hasFailed)
    {
        Action resume = await BlockGraph.PauseAsync([source]).ConfigureAwait(false);
        source.Unfollow(this);
        EndUse();
        if (request.Made != null) await graph.DropAsync(target).ConfigureAwait(false);
        if (bitmap != null)
        {
            bool isKept = hasFailed && request.BitmapMode == BitmapMode.OnSuccess;
            if (isKept) bitmap.Join(_wanted!);
            else if (hasFailed && request.BitmapMode == BitmapMode.Always) bitmap.Join(_left!);
            bitmap.IsBusy = false;
        }
        resume();
    }
}
