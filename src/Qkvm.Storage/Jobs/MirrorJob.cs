using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>A copy that follows its disk until it takes its place, or is left as it is: blockdev-mirror, and
/// block-commit of an image that a guest writes to.</summary>
/// <param name="above">Only what lies above this node is copied; null: all.</param>
sealed class MirrorJob(JobType type, MirrorRequest request, BlockGraph graph, BlockDriver source, BlockDriver target,
    BlockDriver? above) : CopyJob(type, request.Job, request.Errors), IWriteObserver
{
    const int Workers = 4, DefaultGranularity = 64 << 10, IdleMilliseconds = 1000;

    readonly DirtyBitmap _dirty = new("", BitOperations.Log2((uint)(request.Granularity ?? DefaultGranularity)),
        source.Length);
    readonly RangeLock _copying = new();
    readonly Lock _turn = new();
    long _cursor;                                                  // where the next piece is looked for
    BlockDriver? _unused;

    bool IsCommit => Type == JobType.Commit;

    /// <summary>Before it starts, while nobody writes to the source.</summary>
    public async ValueTask PrepareAsync()
    {
        await (IsCommit ? OpenBaseAsync(target, source) : OpenAsync(target)).ConfigureAwait(false);
        Use(source, BlockGraph.JobSource, BlockRights.ConsistentRead);
        Use(target, BlockGraph.JobTarget, BlockRights.ConsistentRead | BlockRights.Write);
        source.Follow(this);
    }

    public ValueTask BeforeAsync(long offset, long length) => default;

    public async ValueTask AfterAsync(long offset, long length)
    {
        long before = _dirty.Count;
        _dirty.Set(offset, length);
        Expect(_dirty.Count - before);
        if (request.IsBlocking)
            try { await CopyDirtyAsync(offset, length).ConfigureAwait(false); }
            catch (Exception e) when (e is BlockException or TargetException) { }   // it is dirty: once more, and told
        Wake();
    }

    protected override async Task RunAsync()
    {
        await FindDirtyAsync().ConfigureAwait(false);
        Expect(_dirty.Count);
        while (true)
        {
            await CopyAllAsync().ConfigureAwait(false);
            if (!IsReady)
            {
                await TryAsync(() => new ValueTask(target.FlushAsync().AsTask())).ConfigureAwait(false);
                if (_dirty.Count == 0) await BecomeReadyAsync().ConfigureAwait(false);
            }
            else if (IsAskedToEnd) return;
            else if (_dirty.Count == 0)
            {
                await SleepAsync(IdleMilliseconds).ConfigureAwait(false);
                await PausePointAsync().ConfigureAwait(false);
            }
        }
    }

    async Task FindDirtyAsync()
    {
        if (request.Scope == CopyScope.None) return;
        if (request.Scope == CopyScope.Full && above == null)
        {
            _dirty.Set(0, source.Length);
            return;
        }
        for (long offset = 0; offset < source.Length;)
        {
            await PausePointAsync().ConfigureAwait(false);
            BlockStatus status = await ChainStatus.AboveAsync(source, above, offset, source.Length - offset)
                .ConfigureAwait(false);
            if (status.IsAllocated) _dirty.Set(offset, status.Length);
            offset += status.Length;
        }
    }

    Task CopyAllAsync()
    {
        var workers = new Task[Workers];
        for (int i = 0; i < Workers; i++) workers[i] = Task.Run(CopySomeAsync);
        return Task.WhenAll(workers);
    }

    async Task CopySomeAsync()
    {
        while (TakeNext(out long offset, out long length))
            if (await TryAsync(() => CopyDirtyAsync(offset, length)).ConfigureAwait(false))
                await SpendAsync(Math.Min(length, source.Length - offset)).ConfigureAwait(false);
            else _dirty.Reset(offset, length);
    }

    /// <summary>The next run of dirty bytes behind the last one.</summary>
    bool TakeNext(out long offset, out long length)
    {
        lock (_turn)
        {
            offset = _dirty.NextDirty(_cursor);
            if (offset < 0 && _cursor > 0) offset = _dirty.NextDirty(0);
            length = 0;
            if (offset < 0) return false;
            long end = _dirty.NextClean(offset);
            length = Math.Min((end < 0 ? source.Length : end) - offset, Piece);
            _cursor = offset + length;
            return true;
        }
    }

    /// <summary>Copies what is dirty in a range. What is written to it meanwhile makes it dirty again.</summary>
    async ValueTask CopyDirtyAsync(long offset, long length)
    {
        long start = offset / _dirty.Granularity * _dirty.Granularity;
        long end = Math.Min((offset + length + _dirty.Granularity - 1) / _dirty.Granularity * _dirty.Granularity,
            source.Length);
        LinkedListNode<RangeLock.Hold> hold = await _copying.AcquireAsync(start, end, exclusive: true)
            .ConfigureAwait(false);
        byte[] buffer = System.Buffers.ArrayPool<byte>.Shared.Rent((int)Math.Min(end - start, Piece));
        try
        {
            for (; start < end; start += Piece)
            {
                long count = Math.Min(end - start, Piece);
                if (_dirty.NextDirty(start) is var next && (next < 0 || next >= start + count)) continue;
                _dirty.Reset(start, count);
                try
                {
                    await CopyAsync(source, target, start, buffer.AsMemory(0, (int)count)).ConfigureAwait(false);
                }
                catch
                {
                    _dirty.Set(start, count);
                    throw;
                }
            }
        }
        finally
        {
            System.Buffers.ArrayPool<byte>.Shared.Return(buffer);
            _copying.Release(hold);
        }
    }

    protected override ValueTask CommitAsync() => graph.ChangeAsync(async () =>
    {
        BlockDriver place = request.Replaces is { } name ? graph.Find(name) : source;
        Action resume = await BlockGraph.PauseAsync([source, place]).ConfigureAwait(false);
        try
        {
            for (long at = _dirty.NextDirty(0); at >= 0; at = _dirty.NextDirty(0))
                await CopyDirtyAsync(at, Piece).ConfigureAwait(false);
            await target.FlushAsync().ConfigureAwait(false);
            source.Unfollow(this);
            EndUse();
            if (!Completes) return;
            await BlockGraph.ReplaceAsync(place, target).ConfigureAwait(false);
            _unused = place;
        }
        finally { resume(); }
    });

    protected override async ValueTask CleanAsync(bool hasFailed)
    {
        source.Unfollow(this);
        EndUse();
        if (IsCommit) BlockGraph.Restore(target);
        if (IsCommit && _unused == null) await graph.ChangeAsync(() => CloseAsync(target)).ConfigureAwait(false);
        if (request.Made != null) await graph.ChangeAsync(() => graph.DropAsync(target)).ConfigureAwait(false);
        await BlockGraph.CloseUnusedAsync(_unused).ConfigureAwait(false);
    }
}
