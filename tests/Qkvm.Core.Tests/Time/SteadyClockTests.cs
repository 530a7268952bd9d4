using Qkvm.Core.Time;

namespace Qkvm.Core.Tests.Time;

/// <summary>Timers by the host's time, which the test moves.</summary>
public class SteadyClockTests
{
    const long Hour = 3_600_000_000_000;

    readonly Host _host = new();
    int _fired;

    IVmTimer Timer(SteadyClock clock) => clock.CreateTimer(() => _fired++);

    [Fact]
    public void A_timer_fires_once_and_never_early()
    {
        var clock = new SteadyClock(_host, static work => work());
        IVmTimer timer = Timer(clock);
        timer.ArmAt(1_500_000);
        _host.Advance(1_499_999);
        Assert.Equal((0, true), (_fired, timer.IsArmed));
        _host.Advance(600_000);
        Assert.Equal((1, false), (_fired, timer.IsArmed));
        _host.Advance(Hour);
        Assert.Equal(1, _fired);
        Assert.Equal(Hour + 2_099_999, clock.Nanoseconds);
    }

    [Fact]
    public void A_time_beyond_what_the_host_can_wait_is_reached()
    {
        IVmTimer timer = Timer(new SteadyClock(_host, static work => work()));
        timer.ArmAt(5 * Hour / 2);
        for (int i = 0; i < 2; i++) _host.Advance(Hour);
        Assert.Equal(0, _fired);
        _host.Advance(Hour / 2);
        Assert.Equal(1, _fired);
    }

    [Fact]
    public void A_timer_that_was_cancelled_does_not_fire()
    {
        IVmTimer timer = Timer(new SteadyClock(_host, static work => work()));
        timer.ArmAt(Hour / 2);
        timer.Cancel();
        _host.Advance(Hour);
        Assert.Equal(0, _fired);
    }

    sealed class Host : TimeProvider
    {
        readonly List<HostTimer> _timers = [];
        long _now;

        public override long TimestampFrequency => 1_000_000_000;
        public override long GetTimestamp() => _now;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var timer = new HostTimer(this, callback);
            _timers.Add(timer);
            return timer;
        }

        public void Advance(long nanoseconds)
        {
            _now += nanoseconds;
            foreach (HostTimer timer in _timers) timer.Look();
        }

        sealed class HostTimer(Host host, TimerCallback callback) : ITimer
        {
            long _due = long.MaxValue;

            public bool Change(TimeSpan dueTime, TimeSpan period)
            {
                _due = host._now + (long)dueTime.TotalNanoseconds;
                return true;
            }

            public void Look()
            {
                if (_due > host._now) return;
                _due = long.MaxValue;
                callback(null);
            }

            public void Dispose() { }
            public ValueTask DisposeAsync() => default;
        }
    }
}
