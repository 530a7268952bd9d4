namespace Qkvm.Host;

// SAFETY: eight bytes on the stack for the time of the call.
/// <summary>What one thread sleeps on until another wakes it: an eventfd. .NET's own give their time away by
/// sched_yield before they sleep, and on a busy host get it back milliseconds later.</summary>
public sealed unsafe class WakeEvent : IDisposable
{
    const int Cloexec = 0x80000, NonBlock = 0x800, Readable = 1;

    readonly int _fd = Libc.eventfd(0, Cloexec | NonBlock);

    public WakeEvent()
    {
        if (_fd < 0) throw new HostException("no eventfd", Libc.Errno);
    }

    /// <summary>For others that wait or wake by it: epoll, the kernel.</summary>
    public int Fd => _fd;

    /// <summary>Any thread. The sleeper wakes, or does not fall asleep next time.</summary>
    public void Set()
    {
        ulong one = 1;
        Libc.write(_fd, &one, sizeof(ulong));
    }

    /// <summary>Until <see cref="Set"/>; it may return without, and says so by false.</summary>
    /// <param name="milliseconds">At most as long; -1: for ever.</param>
    public bool Wait(int milliseconds = -1)
    {
        var wanted = new PollFd { Fd = _fd, Events = Readable };
        bool wasSet = Libc.poll(&wanted, 1, milliseconds) > 0;
        Clear();
        return wasSet;
    }

    /// <summary>Forgets that it was set.</summary>
    public void Clear()
    {
        ulong count;
        Libc.read(_fd, &count, sizeof(ulong));
    }

    public void Dispose() => Libc.close(_fd);
}
