using Qkvm.Core.State;

namespace Qkvm.Core.Time;

/// <summary>The machine's clock over <see cref="HostClock"/>, with its timers. The main loop calls
/// <see cref="RunExpired"/>. All but <see cref="Nanoseconds"/> is under the machine lock.</summary>
public sealed class VirtualClock(Action deadlineMoved) : IVirtualClock
{
    // a guest's period of one tick must not stop the main loop
    const int MaxExpirationsAtOnce = 256;

    readonly List<Timer> _armed = [];                              // in no order: a machine has a few dozen
    long _awaited = long.MaxValue;                                 // the deadline that the main loop knows of
    readonly Lock _origin = new();
    long _pausedAt;                                                // virtual nanoseconds while paused
    long _started;                                                 // host nanoseconds at virtual zero
    bool _running;

    public long Nanoseconds
    {
        get { lock (_origin) return _running ? HostClock.Nanoseconds - _started : _pausedAt; }
    }

    public bool IsRunning => _running;

    public void Start()
    {
        lock (_origin)
        {
            if (_running) return;
            _started = HostClock.Nanoseconds - _pausedAt;
            _running = true;
        }
        deadlineMoved();
    }

    public void Stop()
    {
        lock (_origin)
        {
            if (!_running) return;
            _pausedAt = HostClock.Nanoseconds - _started;
            _running = false;
        }
    }

    public IVmTimer CreateTimer(Action onExpired) => new Timer(this, onExpired);

    /// <summary>Runs due timers; returns the host's nanoseconds to the next one, or -1 for none.</summary>
    public long RunExpired()
    {
        for (int i = 0; i < MaxExpirationsAtOnce; i++)
        {
            if (Next() is not { } next || !_running) break;
            if (next.Due > Nanoseconds) break;
            next.Expire();
        }
        return UntilNext();
    }

    public void Exchange(StateStream state)
    {
        long now = Nanoseconds;
        state.Field("nanoseconds", ref now);
        if (!state.IsLoading) return;
        lock (_origin)
        {
            _pausedAt = now;
            _started = HostClock.Nanoseconds - now;
        }
    }

    long UntilNext()
    {
        Timer? next = _running ? Next() : null;
        _awaited = next?.Due ?? long.MaxValue;
        return next == null ? -1 : Math.Clamp(next.Due - Nanoseconds, 0, long.MaxValue / HostClock.Slowdown)
            * HostClock.Slowdown;
    }

    Timer? Next()
    {
        Timer? next = null;
        for (int i = 0; i < _armed.Count; i++)
            if (next == null || _armed[i].Due < next.Due) next = _armed[i];
        return next;
    }

    sealed class Timer(VirtualClock clock, Action onExpired) : IVmTimer
    {
        int _place = -1;                                           // among the armed ones

        public long Due { get; private set; }

        public bool IsArmed => _place >= 0;

        public void ArmAt(long nanoseconds)
        {
            Due = nanoseconds;
            if (!IsArmed)
            {
                _place = clock._armed.Count;
                clock._armed.Add(this);
            }
            if (nanoseconds >= clock._awaited) return;
            clock._awaited = nanoseconds;
            clock.DeadlineMoved();
        }

        public void Cancel()
        {
            if (!IsArmed) return;
            Timer last = clock._armed[^1];
            (clock._armed[_place], last._place) = (last, _place);
            clock._armed.RemoveAt(clock._armed.Count - 1);
            _place = -1;
        }

        public void Expire()
        {
            Cancel();
            onExpired();
        }
    }

    void DeadlineMoved() => deadlineMoved();
}
