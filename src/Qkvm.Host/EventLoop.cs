using System.Collections.Concurrent;

namespace Qkvm.Host;

// SAFETY: the array of events lies on the stack for the time of the call.
[Flags]
public enum FdEvents : uint
{
    None = 0, Readable = 1, Writable = 4, Error = 8, HangUp = 16,

    /// <summary>Calls back when something has changed, instead of as long as it is so. epoll(7).</summary>
    EdgeTriggered = 1u << 31,
}

/// <summary>A loop over epoll, an eventfd for posted work, and one deadline.</summary>
/// <remarks>Callbacks run on the loop's thread inside <c>enter</c>, which takes the machine lock for the main loop;
/// descriptors
/// must be non-blocking.</remarks>
public sealed unsafe class EventLoop : IoLoop, IDisposable
{
    const long LookInterval = 20_000;                              // nanoseconds
    const int CtlAdd = 1, CtlDel = 2, CtlMod = 3, NonBlockCloexec = 0x80800, Cloexec = 0x80000;

    readonly int _epoll = Libc.epoll_create1(Cloexec);
    readonly int _wake = Libc.eventfd(0, NonBlockCloexec);
    readonly ConcurrentQueue<Action> _posted = new();
    readonly Dictionary<int, Action<FdEvents>> _watches = [];
    readonly Action<Action> _enter;
    readonly EpollEvent[] _ready = GC.AllocateArray<EpollEvent>(64, pinned: true);
    readonly Action _runDue, _dispatch, _dispatchAlways;
    PollPatience _patience;
    // regular files, which epoll refuses: they never wait
    readonly Dictionary<int, FdEvents> _always = [];
    IPolled[] _polled = [];                                        // replaced whole
    IoRing? _ring;
    bool _ringTried;
    int _readyCount;
    long _next = -1;                                               // nanoseconds to the next deadline
    int _wakeRequested;
    int _asleep;                                                   // or about to look a last time before it is
    volatile bool _stop;
    bool _isDisposed;

    /// <param name="enter">Runs an action under the lock that all callbacks need; null for none.</param>
    /// <param name="pollNanoseconds">How long it may look at its <see cref="IPolled"/> sources before it sleeps, if
    /// that pays.</param>
    public EventLoop(Action<Action>? enter = null, long pollNanoseconds = 0)
    {
        _enter = enter ?? (static work => work());
        _patience = new PollPatience(pollNanoseconds);
        (_runDue, _dispatch, _dispatchAlways) = (RunDue, DispatchReady, DispatchAlways);
        if (_epoll < 0 || _wake < 0) throw new HostException("cannot create the event loop", Libc.Errno);
        Control(CtlAdd, _wake, FdEvents.Readable);
    }

    /// <summary>Called before each wait: runs what is due, returns nanoseconds until the next deadline, or -1 for
    /// none.</summary>
    public Func<long> Timers { get; set; } = () => -1;

    /// <summary>Made when the loop's thread first asks for it: only that thread may use it, others get
    /// none.</summary>
    public override IoRing? Ring
    {
        get
        {
            if (Current != this) return null;
            if (_ringTried) return _ring;
            _ringTried = true;
            _ring = IoRing.Create();
            if (_ring != null) Watch(_ring.Fd, FdEvents.Readable, _ => _ring.Reap());
            return _ring;
        }
    }

    /// <summary>From any thread: runs the work on the loop, under the lock, in order.</summary>
    public override void Post(Action work)
    {
        _posted.Enqueue(work);
        Wake();
    }

    /// <summary>From any thread: makes the loop look at its timers again.</summary>
    public void Wake()
    {
        if (Interlocked.Exchange(ref _wakeRequested, 1) != 0 || Volatile.Read(ref _asleep) == 0) return;
        ulong one = 1;
        Libc.write(_wake, &one, 8);
    }

    /// <summary>Watches a descriptor (level triggered) or changes what is watched. Under the lock.</summary>
    public override void Watch(int fd, FdEvents events, Action<FdEvents> callback)
    {
        bool known = _watches.ContainsKey(fd);
        _watches[fd] = callback;
        if (_always.ContainsKey(fd) || !Control(known ? CtlMod : CtlAdd, fd, events)) _always[fd] = events;
    }

    /// <summary>Stops watching; call it before the descriptor is closed. Under the lock.</summary>
    public override void Unwatch(int fd)
    {
        if (_watches.Remove(fd) && !_always.Remove(fd)) Control(CtlDel, fd, FdEvents.None);
    }

    public override bool Polls => true;

    public override void AddPolled(IPolled source)
    {
        lock (_posted) _polled = [.. _polled, source];
        Wake();
    }

    public override void RemovePolled(IPolled source)
    {
        lock (_posted) _polled = [.. _polled.Where(p => p != source)];
    }

    /// <summary>Runs until <see cref="Stop"/>.</summary>
    public void Run()
    {
        Current = this;
        while (!_stop)
        {
            Interlocked.Exchange(ref _wakeRequested, 0);
            _enter(_runDue);
            if (_stop) break;
            if (_always.Count > 0)
            {
                _enter(_dispatchAlways);
                _next = 0;
            }
            if (PollSources()) continue;
            Sleep();
        }
        Current = null;
    }

    public void Stop()
    {
        _stop = true;
        Volatile.Write(ref _wakeRequested, 0);
        Wake();
    }

    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        _ring?.Dispose();
        Libc.close(_epoll);
        Libc.close(_wake);
    }

    void RunDue()
    {
        RunPosted();
        _next = Timers();
    }

    void DispatchReady()
    {
        for (int i = 0; i < _readyCount; i++) Dispatch(_ready[i]);
    }

    void DispatchAlways()
    {
        foreach ((int fd, FdEvents ready) in _always.ToArray())
            if (_watches.TryGetValue(fd, out Action<FdEvents>? callback)) callback(ready);
    }

    /// <summary>Looks at its sources until nothing has come for as long as patience lasts; true: do not sleep
    /// yet.</summary>
    bool PollSources()
    {
        IPolled[] sources = _polled;
        if (sources.Length == 0 && _ring == null) return false;
        bool hasDescriptors = _watches.Count > (_ring == null ? 0 : 1);
        long looked = PollPatience.Now;
        for (long idleSince = 0; !_stop;)
        {
            bool any = false;
            foreach (IPolled source in sources) any |= source.Poll();
            if (_ring != null)
            {
                _ring.Submit();
                any |= _ring.Reap();
            }
            if (IsWanted) return true;
            long now = any && !hasDescriptors ? 0 : PollPatience.Now;
            if (hasDescriptors && now - looked > LookInterval)     // sources with much to do must not starve them
            {
                looked = now;
                any |= LookAtDescriptors();
            }
            if (any) { idleSince = 0; continue; }
            if (idleSince == 0) idleSince = now;
            if (now - idleSince >= _patience.Nanoseconds) break;
            Thread.SpinWait(8);
        }
        bool came = false;
        foreach (IPolled source in sources) came |= source.BeforeSleep();
        return came;
    }

    bool LookAtDescriptors()
    {
        // SAFETY: as long as is said
        fixed (EpollEvent* events = _ready) _readyCount = Wait(events, _ready.Length, 0);
        if (_readyCount <= 0) return false;
        _enter(_dispatch);
        return true;
    }

    bool IsWanted => Volatile.Read(ref _wakeRequested) != 0 || !_posted.IsEmpty;

    void Sleep()
    {
        Interlocked.Exchange(ref _asleep, 1);
        if (IsWanted)
        {
            Volatile.Write(ref _asleep, 0);
            return;
        }
        long before = PollPatience.Now;
        // SAFETY: as long as is said
        fixed (EpollEvent* events = _ready) _readyCount = Wait(events, _ready.Length, _next);
        Volatile.Write(ref _asleep, 0);
        _patience.Slept(PollPatience.Now - before);
        if (_readyCount > 0) _enter(_dispatch);
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
        if (nanoseconds <= 0) return Libc.epoll_wait(_epoll, events, capacity, nanoseconds < 0 ? -1 : 0);
        // epoll_wait counts milliseconds, and kernels before 5.11 have no epoll_pwait2.
        const short Readable = 1;
        var ready = new PollFd { Fd = _epoll, Events = Readable };
        var timeout = new Timespec { Seconds = nanoseconds / 1_000_000_000, Nanoseconds = nanoseconds % 1_000_000_000 };
        int found = Libc.ppoll(&ready, 1, &timeout, null);
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
