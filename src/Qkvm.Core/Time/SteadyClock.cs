namespace Qkvm.Core.Time;

/// <summary>Time that goes on while the machine is paused. Its timers may be armed from any thread.</summary>
/// <param name="post">Runs an action on the main loop under the machine lock.</param>
public sealed class SteadyClock(TimeProvider time, Action<Action> post) : IVirtualClock
{
    readonly long _origin = time.GetTimestamp();

    public long Nanoseconds =>
        (long)((Int128)(time.GetTimestamp() - _origin) * 1_000_000_000 / time.TimestampFrequency);

    public IVmTimer CreateTimer(Action onExpired) => new Timer(this, onExpired);

    sealed class Timer : IVmTimer
    {
        static readonly TimeSpan s_longest = TimeSpan.FromHours(1);    // the host's timers have an end; then once more

        readonly SteadyClock _clock;
        readonly ITimer _timer;
        readonly Action _expire, _onExpired;
        long _due = long.MaxValue;

        public Timer(SteadyClock clock, Action onExpired)
        {
            (_clock, _onExpired, _expire) = (clock, onExpired, Expire);
            _timer = clock.Start(() => clock.Post(_expire));
        }

        public bool IsArmed => Volatile.Read(ref _due) != long.MaxValue;

        public void ArmAt(long nanoseconds)
        {
            Volatile.Write(ref _due, nanoseconds);
            Wait();
        }

        public void Cancel() => Volatile.Write(ref _due, long.MaxValue);

        void Wait()
        {
            double left = Math.Max(0, Volatile.Read(ref _due) - (double)_clock.Nanoseconds);
            TimeSpan span = left > s_longest.TotalNanoseconds ? s_longest
                : TimeSpan.FromMilliseconds(Math.Ceiling(left / 1_000_000));
            _timer.Change(span, Timeout.InfiniteTimeSpan);
        }

        void Expire()
        {
            long due = Volatile.Read(ref _due);
            if (due == long.MaxValue) return;
            if (due > _clock.Nanoseconds)
            {
                Wait();
                return;
            }
            Volatile.Write(ref _due, long.MaxValue);
            _onExpired();
        }
    }

    ITimer Start(Action expired) =>
        time.CreateTimer(_ => expired(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);

    void Post(Action work) => post(work);
}
