using System.Diagnostics;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>A job that moves bytes from one node to another: pieces, speed, what happens where a disk fails.</summary>
abstract class CopyJob(JobType type, JobOptions options, JobErrorPolicies? errors) : Job(type, options), IBlockUser
{
    /// <summary>Bytes that are copied at once.</summary>
    protected const int Piece = 1 << 20;

    const int ENoSpc = 28;
    const double MaxDelay = 0.1;                                   // seconds

    readonly JobErrorPolicies _errors = errors ?? new();
    readonly List<BlockEdge> _edges = [];
    volatile Limit _limit = new(0);

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
                JobErrorAction action = (isRead ? _errors.OnRead : _errors.OnWrite) switch
                {
                    JobErrorPolicy.Ignore => JobErrorAction.Ignore,
                    JobErrorPolicy.Stop => JobErrorAction.Stop,
                    JobErrorPolicy.NoSpace when errno == ENoSpc => JobErrorAction.Stop,
                    _ => JobErrorAction.Report,
                };
                await TellErrorAsync(isRead, action).ConfigureAwait(false);
                if (action == JobErrorAction.Report) throw;
                if (action == JobErrorAction.Ignore) return false;
            }
        }
    }

    /// <summary>Waits where it is faster than it may be. From several threads.</summary>
    protected async ValueTask SpendAsync(long bytes)
    {
        Advance(bytes);
        double due = Due(bytes);
        while (_limit is { IsLimited: true } limit && due - limit.Clock.Elapsed.TotalSeconds is > 0 and var early)
        {
            // in steps, so that another speed, a pause or the end counts at once
            await Task.Delay(TimeSpan.FromSeconds(Math.Min(early, MaxDelay)), Cancelled).ConfigureAwait(false);
            await PausePointAsync().ConfigureAwait(false);
            if (Speed != limit.Speed) due = Due(0);
        }
    }

    /// <summary>When so many more bytes may have been copied, in seconds of the limit's clock.</summary>
    double Due(long bytes)
    {
        lock (_edges)
        {
            if (_limit.Speed != Speed) _limit = new Limit(Speed);
            _limit.Spent += bytes;
            return _limit.IsLimited ? (double)_limit.Spent / _limit.Speed : 0;
        }
    }

    /// <param name="Speed">Bytes a second; 0: no limit.</param>
    sealed record Limit(long Speed)
    {
        public Stopwatch Clock { get; } = Stopwatch.StartNew();
        public long Spent { get; set; }
        public bool IsLimited => Speed > 0;
    }
}
