using System.Collections.Concurrent;

namespace Qkvm.Host;

// SAFETY: the array of events lies on the stack for the time of the call.
[Flags]
public enum FdEvents : uint { None = 0, Readable = 1, Writable = 4, Error = 8, HangUp = 16 }

/// <summary>The main loop: epoll over descriptors, an eventfd for posted work, and one deadline.</summary>
/// <remarks>Callbacks run on the loop's thread inside <paramref name="enter"/>, which takes the machine lock;
/// descriptors must be non-blocking.</remarks>
public sealed unsafe class EventLoop : IDisposable
{
    const int CtlAdd = 1, CtlDel = 2, CtlMod = 3, NonBlockCloexec = 0x80800, Cloexec = 0x80000;

    readonly int _epoll = Libc.epoll_create1(Cloexec);
    readonly int _wake = Libc.eventfd(0, NonBlockCloexec);
    readonly ConcurrentQueue<Action> _posted = new();
    readonly Dictionary<int, Action<FdEvents>> _watches = [];
    readonly Action<Action> _enter;
    // regular files, which epoll refuses: they never wait
    readonly Dictionary<int, FdEvents> _always = [];
    int _wakeRequested;
    volatile bool _stop;

    /// <param name="enter">Runs an action under the lock that all callbacks need.</param>
    public EventLoop(Action<Action> enter)
    {
        _enter = enter;
        if (_epoll < 0 || _wake < 0) throw new HostException("cannot create the event loop", Libc.Errno);
        Control(CtlAdd, _wake, FdEvents.Readable);
    }

    /// <summary>Called before each wait: runs what is due, returns nanoseconds until the next deadline, or -1 for
    /// none.</summary>
    public Func<long> Timers { get; set; } = () => -1;

    /// <summary>From any thread: runs the work on the loop, under the lock, in order.</summary>
    public void Post(Action work)
    {
        _posted.Enqueue(work);
        Wake();
    }

    /// <summary>From any thread: makes the loop look at its timers again.</summary>
    public void Wake()
    {
        if (Interlocked.Exchange(ref _wakeRequested, 1) != 0) return;
        ulong one = 1;
        Libc.write(_wake, &one, 8);
    }

    /// <summary>Watches a descriptor (level triggered) or changes what is watched. Under the lock.</summary>
    public void Watch(int fd, FdEvents events, Action<FdEvents> callback)
    {
        bool known = _watches.ContainsKey(fd);
        _watches[fd] = callback;
        if (_always.ContainsKey(fd) || !Control(known ? CtlMod : CtlAdd, fd, events)) _always[fd] = events;
    }

    /// <summary>Stops watching; call it before the descriptor is closed. Under the lock.</summary>
    public void Unwatch(int fd)
    {
        if (_watches.Remove(fd) && !_always.Remove(fd)) Control(CtlDel, fd, FdEvents.None);
    }

    /// <summary>Runs until <see cref="Stop"/>.</summary>
    public void Run()
    {
        EpollEvent* events = stackalloc EpollEvent[64];
        long next = -1;
        Action timers = () => { RunPosted(); next = Timers(); };
        int count = 0;
        Action dispatch = () => { for (int i = 0; i < count; i++) Dispatch(events[i]); };
        Action dispatchAlways = () =>
            { foreach ((int fd, FdEvents ready) in _always.ToArray()) if (_watches.TryGetValue(fd,
            out Action<FdEvents>? callback)) callback(ready); };
        while (!_stop)
        {
            _enter(timers);
            if (_stop) break;
            if (_always.Count > 0) _enter(dispatchAlways);
            if (_always.Count > 0) next = 0;
            count = Wait(events, 64, next);
            if (count > 0) _enter(dispatch);
        }
    }

    public void Stop()
    {
        _stop = true;
        Volatile.Write(ref _wakeRequested, 0);
        Wake();
    }

    public void Dispose()
    {
        Libc.close(_epoll);
        Libc.close(_wake);
    }

    void RunPosted()
    {
        for (int budget = _posted.Count; budget > 0 && _posted.TryDequeue(out Action? work); budget--) work();
        if (!_posted.IsEmpty) Wake();
    }

    /// <param name="nanoseconds">-1: as long as nothing happens.</param>
    /// <returns>The number of events; 0 when the time is over, -1 after a signal.</returns>
    int Wait(EpollEvent* events, int capacity, long nanoseconds)
    {
        // epoll_wait counts milliseconds, and kernels before 5.11 have no epoll_pwait2.
        const short Readable = 1;
        var ready = new PollFd { Fd = _epoll, Events = Readable };
        var timeout = new Timespec { Seconds = nanoseconds / 1_000_000_000, Nanoseconds = nanoseconds % 1_000_000_000 };
        int found = Libc.ppoll(&ready, 1, nanoseconds < 0 ? null : &timeout, null);
        return found > 0 ? Libc.epoll_wait(_epoll, events, capacity, 0) : found;
    }

    void Dispatch(EpollEvent e)
    {
        int fd = (int)e.Data;
        if (fd != _wake)
        {
            if (_watches.TryGetValue(fd, out Action<FdEvents>? callback)) callback((FdEvents)e.Events);
            return;
        }
        ulong drained;
        Libc.read(_wake, &drained, 8);
        Volatile.Write(ref _wakeRequested, 0);
    }

    /// <returns>False for a descriptor that cannot be waited for.</returns>
    bool Control(int operation, int fd, FdEvents events)
    {
        const int NotPermitted = 1;
        var change = new EpollEvent { Events = (uint)events, Data = (uint)fd };
        if (Libc.epoll_ctl(_epoll, operation, fd, &change) == 0 || operation == CtlDel) return true;
        return Libc.Errno == NotPermitted ? false
            : throw new HostException($"cannot watch descriptor {fd}", Libc.Errno);
    }
}
