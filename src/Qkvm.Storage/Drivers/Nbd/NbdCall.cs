using System.Threading.Tasks.Sources;
using Qkvm.Core.Block;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Drivers.Nbd;

/// <summary>A request that a server has got, or is about to. Used again once its result has been taken.</summary>
/// <remarks>Its result is of block status alone; other commands have none.</remarks>
sealed class NbdCall : IValueTaskSource<BlockStatus>
{
    ManualResetValueTaskSourceCore<BlockStatus> _source = new() { RunContinuationsAsynchronously = true };
    Pool? _home;

    public NbdRequest Request;

    /// <summary>What a write sends, or a read fills.</summary>
    public ScatterList Buffers;

    /// <summary>Bytes of a read that have come.</summary>
    public long Received;

    public BlockStatus Status;

    /// <summary>The first that the server told of; else null.</summary>
    public BlockException? Error;

    public ValueTask<BlockStatus> Begin(Pool home, NbdRequest request, ScatterList buffers)
    {
        _source.Reset();
        (_home, Request, Buffers, Received, Status, Error) = (home, request, buffers, 0, default, null);
        return new(this, _source.Version);
    }

    public void End(Exception? error)
    {
        Buffers = default;
        if (error == null) _source.SetResult(Status);
        else _source.SetException(error);
    }

    BlockStatus IValueTaskSource<BlockStatus>.GetResult(short token)
    {
        try { return _source.GetResult(token); }
        finally { _home?.Return(this); }
    }

    ValueTaskSourceStatus IValueTaskSource<BlockStatus>.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource<BlockStatus>.OnCompleted(Action<object?> continuation, object? state, short token,
        ValueTaskSourceOnCompletedFlags flags) => _source.OnCompleted(continuation, state, token, flags);

    /// <summary>Calls of one connection.</summary>
    public sealed class Pool
    {
        readonly Stack<NbdCall> _free = new();

        public NbdCall Take()
        {
            lock (_free) return _free.TryPop(out NbdCall? call) ? call : new NbdCall();
        }

        public void Return(NbdCall call) { lock (_free) _free.Push(call); }
    }
}
