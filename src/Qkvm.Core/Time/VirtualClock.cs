using System.Diagnostics;
using Qkvm.Core.State;

namespace Qkvm.Core.Time;

/// <summary>The machine's clock over the host's monotonic clock, with its timers. The main loop calls
/// <see cref="RunExpired"/>. All but <see cref="Nanoseconds"/> is under the machine lock.</summary>
public sealed class VirtualClock(Action deadlineMoved) : IVirtualClock
{
    const int MaxExpirationsAtOnce = 256;                          // a guest's period of one tick must not stop the main loop

    readonly PriorityQueue<(Timer Timer, long Generation), long> _queue = new();
    readonly Lock _origin = new();
    long _pausedAt;                                                // virtual nanoseconds while paused
    long _started;                                                 // host nanoseconds at virtual zero
    bool _running;

    public long Nanoseconds
    {
        get { lock (_origin) return _running ? HostNow() - _started : _pausedAt; }
    }

    public bool IsRunning => _running;

    public void Start()
    {
        lock (_origin)
        {
            if (_running) return;
            _started = HostNow() - _pausedAt;
            _running = true;
        }
        deadlineMoved();
    }

    public void Stop()
    {
        lock (_origin)
        {
            if (!_running) return;
            _pausedAt = HostNow() - _started;
            _running = false;
        }
    }

    public IVmTimer CreateTimer(Action onExpired) => new Timer(this, onExpired);

    /// <summary>Runs due timers; returns nanoseconds to the next one, or -1 for none.</summary>
    public long RunExpired()
    {
        for (int i = 0; i < MaxExpirationsAtOnce; i++)
        {
            long left = UntilNext();
            if (left != 0) return left;
            (Timer timer, long generation) = _queue.Dequeue();
            timer.Expire(generation);
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
            _started = HostNow() - now;
        }
    }

    long UntilNext()
    {
        while (_queue.TryPeek(out var top, out long due))
        {
            if (top.Timer.IsCurrent(top.Generation)) return _running ? Math.Max(0, due - Nanoseconds) : -1;
            _queue.Dequeue();
        }
        return -1;
    }

    static long HostNow() => (long)((Int128)Stopwatch.GetTimestamp() * 1_000_000_000 / Stopwatch.Frequency);

    sealed class Timer(VirtualClock clock, Action onExpired) : IVmTimer
    {
        long _generation;                                          // odd: armed; queue entries of other generations are stale
        long _due;

        public bool IsArmed => (_generation & 1) != 0;

        public bool IsCurrent(long generation) => generation == _generation;

        public void ArmAt(long nanoseconds)
        {
            if (IsArmed && _due == nanoseconds) return;
            _generation += IsArmed ? 2 : 1;
            _due = nanoseconds;
            bool first = !clock._queue.TryPeek(out _, out long top) || nanoseconds < top;
            clock._queue.Enqueue((this, _generation), nanoseconds);
            if (first) clock.DeadlineMoved();
        }

        public void Cancel()
        {
            if (IsArmed) _generation++;
        }

        public void Expire(long generation)
        {
            if (!IsCurrent(generation)) return;
            _generation++;
            onExpired();
        }
    }

    void DeadlineMoved() => deadlineMoved();
}
