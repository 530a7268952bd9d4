using System.Diagnostics;

namespace Qkvm.Host;

/// <summary>How long a loop looks for work before it sleeps: twice as long as before after each sleep that it could
/// have saved,
/// up to a limit; half as long after a longer one.</summary>
/// <param name="limit">Nanoseconds; 0: never.</param>
struct PollPatience(long limit)
{
    const long First = 4_000;

    public static long Now => Stopwatch.GetTimestamp();            // nanoseconds, on Linux

    public long Nanoseconds { get; private set; }

    public void Slept(long nanoseconds)
    {
        if (nanoseconds > limit) Nanoseconds = Nanoseconds > First ? Nanoseconds / 2 : 0;
        else Nanoseconds = Math.Min(limit, Math.Max(First, Nanoseconds * 2));
    }
}
