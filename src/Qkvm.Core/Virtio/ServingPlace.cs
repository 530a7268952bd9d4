namespace Qkvm.Core.Virtio;

/// <summary>Who serves a queue whose doorbell rings while its loop sleeps: the processor that rings, or the
/// loop.</summary>
/// <remarks>A loop that is woken at once works beside the processor, which pays where requests come thick. A request
/// now and then is served sooner than a thread is woken. Where all cores are busy a woken loop comes late, and takes
/// its core from a processor: there the one that rings serves, until the loop is tried again.</remarks>
public struct ServingPlace
{
    // nanoseconds: between rings that are worth a thread; a wake-up or a look that came so late that cores are busy;
    // how long the loop is left alone then, at first and at last
    const long Thick = 30_000, Late = 150_000, FirstRest = 10_000_000, LongestRest = 640_000_000;

    long _lastRing, _interval, _wokenAt, _lastLook, _restUntil, _rest;

    /// <summary>The loop was late, and is left alone.</summary>
    public readonly bool LoopRests(long now) => now < _restUntil;

    /// <summary>A doorbell rings while the loop sleeps; false: the loop is to be woken.</summary>
    public bool IsHere(long now)
    {
        _interval += (Math.Min(now - _lastRing, 16 * Thick) - _interval) / 8;
        _lastRing = now;
        if (LoopRests(now) || _interval > Thick) return true;
        if (_wokenAt == 0) _wokenAt = now;
        return false;
    }

    /// <summary>The loop looks at the queue.</summary>
    /// <param name="worked">It did not just look: how long that took says nothing.</param>
    public void Looked(long now, bool worked)
    {
        long waited = Math.Max(_wokenAt != 0 ? now - _wokenAt : 0, _lastLook != 0 ? now - _lastLook : 0);
        if (waited > Late)
        {
            _rest = Math.Clamp(_rest * 2, FirstRest, LongestRest);
            _restUntil = now + _rest;
        }
        else if (_wokenAt != 0) _rest = 0;
        (_wokenAt, _lastLook) = (0, worked ? 0 : now);
    }

    public void Sleeps() => _lastLook = 0;
}
