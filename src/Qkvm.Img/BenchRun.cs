using System.Diagnostics;
using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Img;

/// <summary>How requests wait for the host: on the loop with its ring where there is one, on worker threads alone, by
/// the ring or not at all.</summary>
enum BenchAio { Automatic, Threads, Ring }

/// <summary>What <c>bench</c> does.</summary>
sealed record BenchPlan
{
    public bool IsWrite { get; init; }
    public BenchAio Aio { get; init; }
    public int Count { get; init; }

    /// <summary>Requests in flight.</summary>
    public int Depth { get; init; }

    /// <summary>Requests between flushes; 0 for none.</summary>
    public int FlushInterval { get; init; }

    /// <summary>A flush waits until nothing is in flight.</summary>
    public bool Drains { get; init; }
    public long Offset { get; init; }
    public byte Pattern { get; init; }

    /// <summary>Bytes of a request.</summary>
    public int Size { get; init; }

    /// <summary>Bytes from the start of one request to that of the next.</summary>
    public long Step { get; init; }
}

/// <summary>Sends requests as a disk of a guest would: on a loop with its ring, what has to wait on worker
/// threads.</summary>
sealed class BenchRun
{
    const int InputOutputError = 5;                                // EIO
    const int Alignment = 4096;

    readonly BenchPlan _plan;
    readonly BlockBackend _backend;
    readonly BlockQueue _queue;
    readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly Stack<Request> _free = new();
    readonly long _length;
    long _next;
    int _left, _inFlight, _flushedAt = -1;
    bool _isFlushing, _isSending;
    int _error;

    BenchRun(BlockDriver node, BenchPlan plan, IoLoop loop)
    {
        (_plan, _next, _left, _length) = (plan, plan.Offset, plan.Count, node.Length);
        _backend = new BlockBackend("bench", loop.Post) { IsReadOnly = !plan.IsWrite, SharesWrite = true };
        _backend.Insert(node);
        _queue = plan.Aio == BenchAio.Threads ? new BlockQueue(_backend, loop.Post)
            : new BlockQueue(_backend, loop, static () => { });
        for (int i = 0; i < plan.Depth; i++)
        {
            var buffer = new AlignedBuffer(plan.Size, Alignment);  // until the program ends
            buffer.Memory.Span.Fill(plan.Pattern);
            _free.Push(new Request(this)
            {
                Operation = plan.IsWrite ? BlockOperation.Write : BlockOperation.Read,
                Buffers = new ScatterList(buffer.Memory),
            });
        }
    }

    public static async Task<TimeSpan> RunAsync(BlockDriver node, BenchPlan plan)
    {
        using var thread = new IoThread("bench");
        if (plan.Aio == BenchAio.Ring && !await HasRingAsync(thread.Loop).ConfigureAwait(false))
            throw new ToolException("aio=io_uring: this kernel has no io_uring, or forbids it");
        var run = new BenchRun(node, plan, thread.Loop);
        long start = Stopwatch.GetTimestamp();
        thread.Loop.Post(run.Send);
        await run._done.Task.ConfigureAwait(false);
        TimeSpan took = Stopwatch.GetElapsedTime(start);
        run._backend.Insert(null);
        if (run._error != 0) throw new ToolException($"Failed request: {Libc.Message(run._error)}");
        return took;
    }

    static Task<bool> HasRingAsync(IoLoop loop)
    {
        var asked = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        loop.Post(() => asked.SetResult(loop.Ring != null));
        return asked.Task;
    }

    /// <summary>On the loop. Completions inside Submit come back here at once, and only leave work behind.</summary>
    void Send()
    {
        if (_isSending) return;
        _isSending = true;
        while (_left > 0 && _error == 0 && !_isFlushing && _free.TryPop(out Request? request))
        {
            if (_plan.FlushInterval > 0 && _left < _plan.Count && _left % _plan.FlushInterval == 0
                && _flushedAt != _left)
            {
                if (!_plan.Drains || _inFlight == 0)
                {
                    _isFlushing = _plan.Drains;
                    _flushedAt = _left;
                    _inFlight++;
                    _queue.Submit(new Request(this) { Operation = BlockOperation.Flush });
                }
                _free.Push(request);
                if (_plan.Drains && !_isFlushing && _inFlight > 0) break;
                continue;
            }
            if (_next > _length - _plan.Size)
            {
                _error = InputOutputError;
                break;
            }
            request.Offset = _next;
            _next = (_next + _plan.Step) % _length;
            _left--;
            _inFlight++;
            _queue.Submit(request);
        }
        _isSending = false;
        if (_inFlight == 0 && (_left == 0 || _error != 0)) _done.TrySetResult();
    }

    sealed class Request(BenchRun run) : BlockRequest
    {
        public override void Complete(int errno)
        {
            run._inFlight--;
            if (errno != 0) run._error = errno;
            if (Operation == BlockOperation.Flush) run._isFlushing = false;
            else run._free.Push(this);
            run.Send();
        }
    }
}
