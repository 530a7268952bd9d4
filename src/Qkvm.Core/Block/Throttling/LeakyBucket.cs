namespace Qkvm.Core.Block.Throttling;

/// <summary>What limits one rate.</summary>
/// <param name="Average">Units a second in the long run; 0: no limit.</param>
/// <param name="Burst">Units a second in a burst; 0: none is granted.</param>
/// <param name="BurstSeconds">How long a burst may last.</param>
public readonly record struct RateLimit(long Average, long Burst = 0, long BurstSeconds = 1);

/// <summary>A leaky bucket: what passes pours in, at the average rate it leaks, and while it is over its brim nothing
/// passes. A burst longer than a second has a second bucket, which leaks at the burst's rate. Spec: QEMU,
/// docs/throttle.txt, "The leaky bucket algorithm".</summary>
struct LeakyBucket
{
    const double NanosecondsPerSecond = 1e9;
    const double ShortTerm = 0.1;                                  // seconds of a rate that may pass at once
    const double Forever = 1e9;                                    // seconds

    double _level, _burstLevel;

    public RateLimit Limit { get; init; }

    public void Leak(long nanoseconds)
    {
        double seconds = nanoseconds / NanosecondsPerSecond;
        _level = Math.Max(0, _level - Limit.Average * seconds);
        _burstLevel = Math.Max(0, _burstLevel - Limit.Burst * seconds);
    }

    public void Add(double units)
    {
        if (Limit.Average == 0) return;
        _level += units;
        if (Limit.BurstSeconds > 1) _burstLevel += units;
    }

    /// <summary>Nanoseconds until something may pass; 0: now.</summary>
    public readonly long Wait
    {
        get
        {
            if (Limit.Average == 0) return 0;
            double brim = Limit.Burst == 0 ? Limit.Average * ShortTerm : (double)Limit.Burst * Limit.BurstSeconds;
            double seconds = Math.Max(0, _level - brim) / Limit.Average;
            if (Limit.BurstSeconds > 1)
                seconds = Math.Max(seconds, Math.Max(0, _burstLevel - Limit.Burst * ShortTerm) / Limit.Burst);
            return (long)Math.Ceiling(Math.Min(seconds, Forever) * NanosecondsPerSecond);
        }
    }
}
