using Qkvm.Host;

namespace Qkvm.Core.Memory;

/// <summary>A register whose write only says that there is work: it is rung without the machine lock, and answered on a
/// loop.</summary>
/// <remarks>Rings that come before the answer are one. Under KVM the kernel rings it by an eventfd, and the vCPU does
/// not leave the guest.</remarks>
public sealed class Doorbell : IDisposable
{
    readonly IoLoop _loop;
    readonly Action _answer, _rung;
    readonly Func<bool>? _serve;
    WakeEvent? _event;
    int _pending;

    /// <param name="rung">On the loop.</param>
    /// <param name="serve">On the thread that rings; true: the loop need not know.</param>
    public Doorbell(IoLoop loop, Action rung, Func<bool>? serve = null) =>
        (_loop, _rung, _serve, _answer) = (loop, rung, serve, Answer);

    /// <summary>The eventfd that rings it, made when first asked for. Under the machine lock.</summary>
    public int Fd
    {
        get
        {
            if (_event is { } made) return made.Fd;
            WakeEvent rings = _event = new WakeEvent();
            _loop.Post(() => _loop.Watch(rings.Fd, FdEvents.Readable, _ => { rings.Clear(); Answer(); }));
            return rings.Fd;
        }
    }

    /// <summary>From any thread.</summary>
    public void Ring()
    {
        if (_serve == null || !_serve()) Wake();
    }

    /// <summary>As <see cref="Ring"/>, and the loop answers.</summary>
    public void Wake()
    {
        if (Interlocked.Exchange(ref _pending, 1) == 0) _loop.Post(_answer);
    }

    /// <summary>Nothing rings it any more.</summary>
    public void Dispose()
    {
        if (_event is not { } rings) return;
        _loop.Post(() => { _loop.Unwatch(rings.Fd); rings.Dispose(); });
    }

    void Answer()
    {
        Interlocked.Exchange(ref _pending, 0);
        _rung();
    }
}

/// <summary>Which writes to a region ring.</summary>
/// <param name="Offset">In the region.</param>
/// <param name="Value">What must be written; null: anything.</param>
public readonly record struct DoorbellPlace(ulong Offset, ulong? Value, Doorbell Doorbell);
