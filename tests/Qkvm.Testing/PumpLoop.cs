using Qkvm.Host;

namespace Qkvm.Testing;

/// <summary>A loop without a thread: a <see cref="Pump"/> runs it.</summary>
public sealed class PumpLoop(Pump pump) : IoLoop
{
    public override void Post(Action work) => pump.Post(work);
    public override void Watch(int fd, FdEvents events, Action<FdEvents> callback) => throw new NotSupportedException();
    public override void Unwatch(int fd) => throw new NotSupportedException();
}
