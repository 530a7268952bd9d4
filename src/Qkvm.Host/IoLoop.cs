namespace Qkvm.Host;

/// <summary>A thread that waits for descriptors and posted work and calls back: the main loop, under the machine lock,
/// or an
/// <c>-object iothread</c>, without any lock.</summary>
public abstract class IoLoop
{
    [ThreadStatic] static IoLoop? t_current;

    /// <summary>The loop whose thread this is, or null.</summary>
    public static IoLoop? Current { get => t_current; protected set => t_current = value; }

    /// <summary>Where requests to files complete on this loop without a thread that waits; null where the kernel has
    /// none.</summary>
    public virtual IoRing? Ring => null;

    /// <summary>From any thread: runs the work on the loop, in order.</summary>
    public abstract void Post(Action work);

    /// <summary>Watches a non-blocking descriptor (level triggered) or changes what is watched. On the loop.</summary>
    public abstract void Watch(int fd, FdEvents events, Action<FdEvents> callback);

    /// <summary>Stops watching; call it before the descriptor is closed. On the loop.</summary>
    public abstract void Unwatch(int fd);

    /// <summary>Sources are looked at by the loop itself; else whoever rings looks until nothing is left.</summary>
    public virtual bool Polls => false;

    /// <summary>From any thread: what the loop looks at by itself while it is awake.</summary>
    public virtual void AddPolled(IPolled source) { }

    public virtual void RemovePolled(IPolled source) { }
}

/// <summary>A source of work that need not announce it while somebody looks: a virtqueue. All members are called on the
/// loop.</summary>
public interface IPolled
{
    /// <summary>Does what there is to do; false if there was nothing.</summary>
    bool Poll();

    /// <summary>The loop is about to sleep: asks for announcements. True if work came meanwhile.</summary>
    bool BeforeSleep();
}
