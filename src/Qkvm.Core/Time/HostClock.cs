using System.Diagnostics;

namespace Qkvm.Core.Time;

/// <summary>The host's monotonic clock, which all clocks of guests are made from.</summary>
public static class HostClock
{
    const long Second = 1_000_000_000;

    static readonly long s_origin = Stopwatch.GetTimestamp();

    /// <summary>By how much guests' time is slower than the host's: 1, or more where a guest runs so slowly that its
    /// clock ticks would leave it no time for anything else. Set before a machine is made.</summary>
    public static int Slowdown { get; set; } = 1;

    /// <summary>Of guests' time, since this process first asked. Any thread.</summary>
    public static long Nanoseconds
    {
        get
        {
            long origin = s_origin;                                 // first: whoever asks first also sets it
            long ticks = Stopwatch.GetTimestamp() - origin;
            long nanoseconds = Stopwatch.Frequency == Second ? ticks
                : (long)((Int128)ticks * Second / Stopwatch.Frequency);
            return Slowdown == 1 ? nanoseconds : nanoseconds / Slowdown;
        }
    }
}
