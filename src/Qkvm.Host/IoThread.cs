namespace Qkvm.Host;

/// <summary>A loop on a thread of its own, which moves data outside the machine lock.</summary>
public sealed class IoThread : IDisposable
{
    /// <summary>poll-max-ns where users give none; more than QEMU's 32768, since a guest on the software CPU takes
    /// longer for its next request, and a wake-up costs it two system calls.</summary>
    public const long DefaultPoll = 100_000;

    readonly EventLoop _loop;
    readonly TaskCompletionSource<int> _number = new();
    readonly Thread _thread;
    bool _isStarted;

    /// <param name="pollNanoseconds">How long it may look for work before it sleeps.</param>
    public IoThread(string name, long pollNanoseconds = DefaultPoll)
    {
        _loop = new EventLoop(pollNanoseconds: pollNanoseconds);
        MaxPoll = pollNanoseconds;
        _thread = new Thread(() =>
        {
            _number.SetResult(Libc.gettid());
            _loop.Run();
        }) { Name = $"IO {name}", IsBackground = true };
    }

    /// <summary>Nanoseconds.</summary>
    public long MaxPoll { get; }

    /// <summary>The host's number of its thread, which this starts.</summary>
    public int ThreadId
    {
        get
        {
            _ = Loop;
            return _number.Task.Result;
        }
    }

    /// <summary>Its thread starts when a device first asks.</summary>
    public IoLoop Loop
    {
        get
        {
            if (!_isStarted) _thread.Start();
            _isStarted = true;
            return _loop;
        }
    }

    /// <summary>Returns when the thread has ended: not from it, and not under a lock that its work takes. Once more
    /// does nothing.</summary>
    public void Dispose()
    {
        _loop.Stop();
        if (_isStarted) _thread.Join();
        _loop.Dispose();
    }
}
