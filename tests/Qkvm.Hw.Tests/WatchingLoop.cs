using Qkvm.Host;

namespace Qkvm.Hw.Tests;

/// <summary>Does posted work at once, and calls back when the test says.</summary>
sealed class WatchingLoop : IoLoop
{
    readonly Dictionary<int, Action<FdEvents>> _watched = [];

    public override void Post(Action work) => work();
    public override void Watch(int fd, FdEvents events, Action<FdEvents> callback) => _watched[fd] = callback;
    public override void Unwatch(int fd) => _watched.Remove(fd);

    public void Call(WakeEvent signal)
    {
        signal.Set();
        _watched[signal.Fd](FdEvents.Readable);
        Assert.False(signal.Wait(0));                              // it was cleared
    }
}
