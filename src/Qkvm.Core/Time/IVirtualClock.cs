namespace Qkvm.Core.Time;

/// <summary>The machine's time. It stops while the machine is paused.</summary>
public interface IVirtualClock
{
    /// <summary>Nanoseconds since the machine was made; any thread.</summary>
    long Nanoseconds { get; }

    /// <summary>A timer whose callback runs on the main loop under the machine lock.</summary>
    IVmTimer CreateTimer(Action onExpired);
}

public interface IVmTimer
{
    /// <summary>Fires once at (or a little after) this time; replaces an earlier setting. A past time fires
    /// soon.</summary>
    void ArmAt(long nanoseconds);
    void Cancel();
    bool IsArmed { get; }
}

/// <summary>The clock in a device's own ticks.</summary>
public readonly struct TickClock(IVirtualClock clock, uint hertz)
{
    public const long Never = long.MaxValue;

    public long Now => (long)((Int128)clock.Nanoseconds * hertz / 1_000_000_000);

    /// <summary>Rounds up where Now rounds down: never early.</summary>
    public void Arm(IVmTimer timer, long tick)
    {
        Int128 due = ((Int128)tick * 1_000_000_000 + hertz - 1) / hertz;
        if (due >= long.MaxValue) timer.Cancel();                  // beyond the end of time
        else timer.ArmAt((long)due);
    }
}
