using Qkvm.Core.Time;

namespace Qkvm.Testing;

/// <summary>A clock that stands still until the test moves it; timers fire in order on the way.</summary>
public sealed class FakeClock : IVirtualClock
{
    readonly List<FakeTimer> _timers = [];

    public long Nanoseconds { get; private set; }

    public IVmTimer CreateTimer(Action onExpired)
    {
        var timer = new FakeTimer(onExpired);
        _timers.Add(timer);
        return timer;
    }

    public void Advance(long nanoseconds) => AdvanceTo(Nanoseconds + nanoseconds);

    /// <summary>Timers that came due meanwhile fire at the end: the host was late.</summary>
    public void Jump(long nanoseconds)
    {
        Nanoseconds += nanoseconds;
        AdvanceTo(Nanoseconds);
    }

    public void AdvanceTo(long target)
    {
        while (_timers.Where(t => t.Due <= target).MinBy(t => t.Due) is { } next)
        {
            Nanoseconds = Math.Max(Nanoseconds, next.Due);
            next.Fire();
        }
        Nanoseconds = target;
    }

    sealed class FakeTimer(Action onExpired) : IVmTimer
    {
        public long Due { get; private set; } = long.MaxValue;
        public bool IsArmed => Due != long.MaxValue;
        public void ArmAt(long nanoseconds) => Due = nanoseconds;
        public void Cancel() => Due = long.MaxValue;

        public void Fire()
        {
            Due = long.MaxValue;
            onExpired();
        }
    }
}
