namespace Qkvm.Backends.Tests.Net.User;

/// <summary>A clock that stands still until the test moves it; its timers call back meanwhile.</summary>
sealed class ManualTime : TimeProvider
{
    readonly List<ManualTimer> _timers = [];
    long _now;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Interlocked.Read(ref _now);

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new ManualTimer(this, () => callback(state));
        lock (_timers) _timers.Add(timer);
        timer.Change(dueTime, period);
        return timer;
    }

    public void Advance(TimeSpan time)
    {
        long end = _now + time.Ticks;
        while (true)
        {
            ManualTimer? next;
            lock (_timers) next = _timers.Where(t => t.Due <= end).MinBy(t => t.Due);
            if (next == null) break;
            Interlocked.Exchange(ref _now, Math.Max(_now, next.Due));
            next.Fire();
        }
        Interlocked.Exchange(ref _now, end);
    }

    sealed class ManualTimer(ManualTime time, Action fire) : ITimer
    {
        TimeSpan _period;

        public long Due { get; private set; } = long.MaxValue;

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (time._timers)
            {
                _period = period;
                Due = dueTime < TimeSpan.Zero ? long.MaxValue : time._now + dueTime.Ticks;
            }
            return true;
        }

        public void Fire()
        {
            lock (time._timers) Due = _period <= TimeSpan.Zero ? long.MaxValue : time._now + _period.Ticks;
            fire();
        }

        public void Dispose() => Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);

        public ValueTask DisposeAsync()
        {
            Dispose();
            return default;
        }
    }
}
