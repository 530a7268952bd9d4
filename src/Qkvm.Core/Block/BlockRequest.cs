using System.Runtime.CompilerServices;
using Qkvm.Core.Block.Throttling;

namespace Qkvm.Core.Block;

public enum BlockOperation { Read, Write, Flush, Discard, WriteZeroes }

/// <summary>One request of a device; reusable after it completed, so that steady traffic allocates nothing.</summary>
public abstract class BlockRequest : IThreadPoolWorkItem, IThrottled
{
    readonly Action _ended;
    ConfiguredValueTaskAwaitable.ConfiguredValueTaskAwaiter _awaited;
    Action<BlockRequest, int>? _whenEnded;

    protected BlockRequest() => _ended = Ended;

    public BlockOperation Operation { get; set; }

    /// <summary>Bytes from the start of the disk.</summary>
    public long Offset { get; set; }

    /// <summary>Bytes, for Discard and WriteZeroes; for Read and Write that of <see cref="Buffers"/>.</summary>
    public long Length { get; set; }
    public ScatterList Buffers { get; set; }

    /// <summary>What the whole of it is about.</summary>
    internal long Bytes => Operation switch
    {
        BlockOperation.Read or BlockOperation.Write => Buffers.Length,
        BlockOperation.Flush => 0,
        _ => Length,
    };

    public bool MayUnmap { get; set; }

    /// <summary>Of a Write: its data is on stable storage before it completes (forced unit access).</summary>
    public bool Fua { get; set; }
    internal int Errno { get; set; }

    /// <summary>It is not made again after its error.</summary>
    internal bool IsGivenUp { get; set; }

    /// <summary>When it was submitted, as Stopwatch counts.</summary>
    internal long Started { get; set; }

    /// <summary>Where it goes on when limits have held it back.</summary>
    internal BlockQueue? Queue { get; set; }

    /// <summary>What a worker thread runs.</summary>
    internal Action<BlockRequest>? Work { get; set; }

    /// <summary>On the loop of the queue that it was submitted to (for the main loop: under the machine lock). 0 or an
    /// errno.</summary>
    public abstract void Complete(int errno);

    void IThreadPoolWorkItem.Execute() => Work!(this);

    long IThrottled.Bytes => Bytes;
    void IThrottled.GoOn() => Queue!.Release(this);

    /// <summary>Calls with the errno when the task is done, at once or where it completes.</summary>
    internal void WhenDone(ValueTask task, Action<BlockRequest, int> whenEnded)
    {
        (_awaited, _whenEnded) = (task.ConfigureAwait(false).GetAwaiter(), whenEnded);
        if (_awaited.IsCompleted) Ended();
        else _awaited.UnsafeOnCompleted(_ended);
    }

    void Ended()
    {
        int errno = 0;
        try { _awaited.GetResult(); }
        catch (Exception e) { errno = BlockException.ErrnoOf(e); }
        _awaited = default;
        _whenEnded!(this, errno);
    }
}
