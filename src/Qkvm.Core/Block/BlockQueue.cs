using System.Collections.Concurrent;
using System.Diagnostics;
using Qkvm.Host;

namespace Qkvm.Core.Block;

/// <summary>Requests of one device queue to a backend: what can be served without waiting is, on the spot; the rest
/// goes to the loop's
/// ring or to worker threads and completes on the loop.</summary>
public sealed class BlockQueue
{
    const int NanosecondsPerTick = 100;

    readonly BlockBackend _backend;
    readonly IoLoop? _loop;
    readonly Action<Action> _post;
    readonly Action? _afterCompletions;
    readonly ConcurrentQueue<BlockRequest> _completed = new(), _submitted = new(), _held = new();
    readonly Action _runCompletions, _runSubmitted, _runHeld;
    readonly Action<BlockRequest> _work;
    readonly Action<BlockRequest, int> _arrived, _hand, _finish;
    int _completionPosted, _submissionPosted;

    /// <param name="afterCompletions">On the loop, after requests that had to wait have completed.</param>
    public BlockQueue(BlockBackend backend, IoLoop loop, Action afterCompletions) : this(backend, loop.Post)
    {
        (_loop, _afterCompletions) = (loop, afterCompletions);
    }

    /// <summary>For devices under the machine lock: requests complete inside <see cref="Submit"/> only where a device
    /// says that they may.</summary>
    /// <param name="post">Runs an action on the main loop under the machine lock.</param>
    public BlockQueue(BlockBackend backend, Action<Action> post)
    {
        (_backend, _post, _runCompletions) = (backend, post, RunCompletions);
        (_work, _arrived, _hand, _finish, _runSubmitted) = (Work, Arrived, HandOver, Finish, RunSubmitted);
        _runHeld = RunHeld;
        backend.Resumed += () => post(_runHeld);
    }

    /// <summary>Starts a request; Complete may follow inside this call. On the loop, or on a thread that serves in
    /// its place: then the loop starts what cannot complete at once.</summary>
    /// <param name="isInside">For a device under the machine lock: it may.</param>
    public void Submit(BlockRequest request, bool isInside = false)
    {
        if (!_backend.TryBegin())
        {
            _held.Enqueue(request);
            if (!_backend.IsPaused) _post(_runHeld);               // the pause ended meanwhile
            return;
        }
        request.Started = Stopwatch.GetTimestamp();
        if (_backend.Holds(this, request)) return;
        if ((_loop != null || isInside) && TryStart(request)) return;
        if (_loop == null || IsOnLoop) QueueWork(request);
        else Release(request);
    }

    /// <summary>The machine goes on after an error: once more. From any thread.</summary>
    internal void Retry(BlockRequest request)
    {
        _held.Enqueue(request);
        _post(_runHeld);
    }

    /// <summary>A request that was kept after an error ends with it. From any thread.</summary>
    internal void Fail(BlockRequest request, int errno)
    {
        _backend.BeginAgain();
        request.IsGivenUp = true;
        HandOver(request, errno);
    }

    /// <summary>The loop starts it. From any thread.</summary>
    internal void Release(BlockRequest request)
    {
        _submitted.Enqueue(request);
        if (Interlocked.Exchange(ref _submissionPosted, 1) == 0) _post(_runSubmitted);
    }

    bool IsOnLoop => IoLoop.Current == _loop || !_loop!.Polls;

    void RunHeld()
    {
        while (!_backend.IsPaused && _held.TryDequeue(out BlockRequest? request)) Submit(request);
        _afterCompletions?.Invoke();
    }

    void RunSubmitted()
    {
        Volatile.Write(ref _submissionPosted, 0);
        while (_submitted.TryDequeue(out BlockRequest? request))
            if (_loop == null || !TryStart(request)) QueueWork(request);
        _afterCompletions?.Invoke();
    }

    void QueueWork(BlockRequest request)
    {
        request.Work = _work;
        ThreadPool.UnsafeQueueUserWorkItem(request, preferLocal: false);
    }

    /// <summary>Completes what worker threads have done.</summary>
    internal void RunCompletions()
    {
        Volatile.Write(ref _completionPosted, 0);
        bool any = false;
        for (; _completed.TryDequeue(out BlockRequest? request); any = true) Finish(request, request.Errno);
        if (any) _afterCompletions?.Invoke();
    }

    bool TryStart(BlockRequest request)
    {
        if (_backend.Root is not { } root) return false;
        if (_backend.FlagsOf(request) != WriteFlags.None) return false;
        ValueTask result;
        try
        {
            if (!root.TryStart(request.Operation, request.Offset, request.Buffers, _loop?.Ring, out result))
                return false;
        }
        catch (Exception e) { result = ValueTask.FromException(e); }
        request.WhenDone(result, result.IsCompleted ? _finish : _loop == null ? _hand : _arrived);
        return true;
    }

    void Work(BlockRequest request)
    {
        ValueTask result;
        try { result = _backend.ExecuteAsync(request); }
        catch (Exception e) { result = ValueTask.FromException(e); }
        request.WhenDone(result, _hand);
    }

    /// <summary>On the loop, as a rule; on a worker thread where a driver had to ask one after all.</summary>
    void Arrived(BlockRequest request, int errno)
    {
        if (IoLoop.Current == _loop) Finish(request, errno);
        else HandOver(request, errno);
    }

    void HandOver(BlockRequest request, int errno)
    {
        request.Errno = errno;
        _completed.Enqueue(request);
        if (Interlocked.Exchange(ref _completionPosted, 1) == 0) _post(_runCompletions);
    }

    void Finish(BlockRequest request, int errno)
    {
        if (!request.IsGivenUp)
        {
            long nanoseconds = Stopwatch.GetElapsedTime(request.Started).Ticks * NanosecondsPerTick;
            _backend.Statistics.Add(request, nanoseconds, errno);
            if (errno != 0 && _backend.Keeps(this, request, ref errno))
            {
                _backend.Ended();
                return;
            }
        }
        request.IsGivenUp = false;
        request.Complete(errno);
        _backend.Ended();
    }
}
