using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Storage.Jobs;

/// <summary>A job that moves bytes from one node to another: pieces, speed, what happens where a disk fails.</summary>
abstract class CopyJob(JobType type, JobOptions options, JobErrorPolicies? errors) : Job(type, options), IBlockUser
{
    /// <summary>Bytes that are copied at once: few enough to be in the processor's cache when they are
    /// written.</summary>
    protected const int Piece = 512 << 10;

    const double MaxDelay = 0.1;                                   // seconds

    readonly JobErrorPolicies _errors = errors ?? new();
    readonly List<BlockEdge> _edges = [];
    CopyLimit _limit = new(0);

    string IBlockUser.UserName => $"job '{Id}'";

    /// <summary>Its requests end by themselves.</summary>
    ValueTask<Action> IBlockUser.PauseAsync() => new(static () => { });

    protected void Use(BlockDriver node, string role, BlockRights needs) =>
        _edges.Add(new BlockEdge(node, this, role, new BlockUse(needs, BlockRights.None)));

    protected void EndUse()
    {
        foreach (BlockEdge edge in _edges) edge.Detach();
        _edges.Clear();
    }

    bool _wasReadOnly;

    /// <summary>Opens the node that it writes to.</summary>
    protected ValueTask OpenAsync(BlockDriver target)
    {
        _wasReadOnly = target.IsReadOnly;
        return target.SetReadOnlyAsync(false);
    }

    /// <summary>Opens a node that lies below the one that it copies, and is to have all of its bytes.</summary>
    protected async ValueTask OpenBaseAsync(BlockDriver target, BlockDriver source)
    {
        await OpenAsync(target).ConfigureAwait(false);
        BlockGraph.Relax(target);
        if (target.Length < source.Length) await target.ResizeAsync(source.Length).ConfigureAwait(false);
    }

    /// <summary>The node is for reading again, if it was before.</summary>
    protected ValueTask CloseAsync(BlockDriver target) => _wasReadOnly ? target.SetReadOnlyAsync(true) : default;

    /// <summary>Copies bytes; zeros that the source knows of become zeros that take no room.</summary>
    protected static async ValueTask CopyAsync(BlockDriver source, BlockDriver target, long offset, Memory<byte> buffer)
    {
        for (long end = offset + buffer.Length; offset < end;)
        {
            BlockStatus status = (await ChainStatus.FindAsync(source, offset, end - offset).ConfigureAwait(false))
                .Status;
            long length = Math.Min(status.Length, end - offset);
            if (status.IsZero)
                await WriteAsync(() => target.WriteZeroesAsync(offset, length, mayUnmap: true)).ConfigureAwait(false);
            else
            {
                var part = new ScatterList(buffer[..(int)length]);
                await source.ReadAsync(offset, part).ConfigureAwait(false);
                await WriteAsync(() => target.WriteAsync(offset, part)).ConfigureAwait(false);
            }
            offset += length;
        }
    }

    static async ValueTask WriteAsync(Func<ValueTask> write)
    {
        try { await write().ConfigureAwait(false); }
        catch (BlockException e) { throw new TargetException(e); }
    }

    /// <summary>The target failed, not the source.</summary>
    protected sealed class TargetException(BlockException inner) : Exception(inner.Message, inner)
    {
        public int Errno => inner.Errno;
    }

    /// <summary>Does a step again until it succeeds, or as the user wants it where a disk fails.</summary>
    /// <returns>False: it failed, and that is to be ignored.</returns>
    protected async ValueTask<bool> TryAsync(Func<ValueTask> step)
    {
        while (true)
        {
            await PausePointAsync().ConfigureAwait(false);
            try
            {
                await step().ConfigureAwait(false);
                return true;
            }
            catch (Exception e) when (e is BlockException or TargetException)
            {
                bool isRead = e is BlockException;
                int errno = e is TargetException target ? target.Errno : ((BlockException)e).Errno;
                ErrorAction action = (isRead ? _errors.OnRead : _errors.OnWrite) switch
                {
                    ErrorPolicy.Ignore => ErrorAction.Ignore,
                    ErrorPolicy.Stop => ErrorAction.Stop,
                    ErrorPolicy.Enospc when BlockErrors.IsNoSpace(errno) => ErrorAction.Stop,
                    _ => ErrorAction.Report,
                };
                await TellErrorAsync(isRead, action).ConfigureAwait(false);
                if (action == ErrorAction.Report) throw;
                if (action == ErrorAction.Ignore) return false;
            }
        }
    }

    /// <summary>Waits where it is faster than it may be. From several threads.</summary>
    protected async ValueTask SpendAsync(long bytes)
    {
        Advance(bytes);
        CopyLimit limit = LimitNow();
        for (double due = limit.Spend(bytes); limit.Until(due) is > 0 and var early;)
        {
            // in steps, so that another speed, a pause or the end counts at once
            await Task.Delay(TimeSpan.FromSeconds(Math.Min(early, MaxDelay)), Cancelled).ConfigureAwait(false);
            await PausePointAsync().ConfigureAwait(false);
            if (limit.BytesPerSecond == Speed) continue;
            limit = LimitNow();
            due = limit.Spend(0);
        }
    }

    CopyLimit LimitNow()
    {
        lock (_edges) return _limit.BytesPerSecond == Speed ? _limit : _limit = new CopyLimit(Speed);
    }
}
