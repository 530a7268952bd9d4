using System.Diagnostics;

namespace Qkvm.Core.Virtio;

/// <summary>When to tell a driver of used buffers: at once, or later while it gives more of them, if it did so the last
/// times.</summary>
/// <remarks>An interrupt costs a guest more than a request does. A driver that has more to give gives it in intervals
/// about as long as
/// the last ones; one whose processors all sleep has nothing to give.</remarks>
struct SignalPatience
{
    // nanoseconds: of a pause; since the first buffer was used
    const long Shortest = 8_000, Longest = 40_000, Most = 200_000;
    const int LongestBackoff = 1024;
    const int Many = 16;

    long _since, _lastWork;                                        // host nanoseconds; 0: nobody waits
    long _interval;                                                // between chains, smoothed
    bool _paid;                                                    // chains came while it waited
    int _rings;                                                    // served where they rang, since the first
    int _skip, _backoff;                                           // signals that go at once, after waiting in vain

    /// <param name="worked">Chains came since the last call.</param>
    /// <param name="sleeps">All processors of the guest wait for an interrupt.</param>
    /// <returns>Now is the time.</returns>
    public bool IsOver(bool worked, bool sleeps)
    {
        if (_skip > 0)
        {
            if (worked) return false;
            _skip--;
            return true;
        }
        long now = Stopwatch.GetTimestamp();
        if (_since == 0)
        {
            Begin(now);
            return false;
        }
        if (worked) Worked(now);
        // A processor that serves goes on more slowly, and may have been interrupted by this very thread.
        long enough = _rings > 0 ? Most : Math.Clamp(2 * _interval, Shortest, Longest);
        if (!sleeps && now - _lastWork < enough && now - _since < Most) return false;
        End(isCheap: sleeps && _rings == 0);
        return true;
    }

    /// <summary>As <see cref="IsOver"/>, for the thread that rings and has served; where it is not the time, a loop
    /// must look.</summary>
    public bool IsOverHere()
    {
        if (_skip > 0)
        {
            _skip--;
            return true;
        }
        long now = Stopwatch.GetTimestamp();
        if (_since == 0) Begin(now);
        else Worked(now);
        if (++_rings < Many && now - _since < Most) return false;
        End(isCheap: false);
        return true;
    }

    void Begin(long now) => (_since, _lastWork, _paid, _rings) = (now, now, false, 0);

    void Worked(long now)
    {
        _interval += (Math.Min(now - _lastWork, Longest) - _interval) / 8;
        (_lastWork, _paid) = (now, true);
    }

    /// <param name="isCheap">To have waited in vain has cost nothing.</param>
    void End(bool isCheap)
    {
        _since = 0;
        if (_paid) _backoff = 0;
        else if (!isCheap) _skip = _backoff = Math.Min(LongestBackoff, Math.Max(4, _backoff * 2));
    }
}
