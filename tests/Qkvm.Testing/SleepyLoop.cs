using Qkvm.Host;

namespace Qkvm.Testing;

/// <summary>A loop that looks at its sources by itself while it is awake, which is while the pump runs what was posted
/// to it.</summary>
public sealed class SleepyLoop(Pump pump) : IoLoop
{
    readonly List<IPolled> _sources = [];

    public override bool Polls => true;

    /// <summary>Runs what was posted, looks until nothing is left to do, and sleeps again.</summary>
    public void WakeUp()
    {
        pump.RunPosted();
        foreach (IPolled source in _sources)
            do
                while (source.Poll()) { }
            while (source.BeforeSleep());
    }

    public override void Post(Action work) => pump.Post(work);
    public override void Watch(int fd, FdEvents events, Action<FdEvents> callback) => throw new NotSupportedException();
    public override void Unwatch(int fd) => throw new NotSupportedException();
    public override void AddPolled(IPolled source) => _sources.Add(source);
    public override void RemovePolled(IPolled source) => _sources.Remove(source);
}
