namespace Qkvm.Core.Virtio;

/// <summary>Who serves a queue whose doorbell rings while its loop sleeps: the processor that rings, or the
/// loop.</summary>
/// <remarks>The loop works beside the processor, which pays where requests come thick and many are on their way
/// together. One now and then, or one after the other, is served sooner than a thread is woken, and on a host whose
/// cores are all busy far sooner.</remarks>
public struct ServingPlace
{
    const long Thick = 30_000;                                     // nanoseconds between rings that are worth a thread

    long _lastRing, _interval;

    /// <summary>A doorbell rings while the loop sleeps; false: the loop is to be woken.</summary>
    /// <param name="now">Host nanoseconds.</param>
    /// <param name="oneByOne">The driver gives the next request when it has heard of the last.</param>
    public bool IsHere(long now, bool oneByOne)
    {
        _interval += (Math.Min(now - _lastRing, 16 * Thick) - _interval) / 8;
        _lastRing = now;
        return oneByOne || _interval > Thick;
    }
}
