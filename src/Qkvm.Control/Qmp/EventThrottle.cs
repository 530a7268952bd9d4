using Qkvm.Core.Machine;

namespace Qkvm.Control.Qmp;

/// <summary>Lets events of one kind and subject through not more often than their interval allows: the
/// first at once, of the others the last when the interval is over. Main loop, under the machine lock.</summary>
/// <param name="post">Runs work there.</param>
public sealed class EventThrottle(Action<MachineEvent> pass, Action<Action> post, TimeProvider time) : IDisposable
{
    sealed class Kind
    {
        public ITimer? Timer;
        public bool IsWaiting;                                     // an interval runs
        public MachineEvent? Last;                                 // came meanwhile
    }

    readonly Dictionary<(Type, string Subject), Kind> _kinds = [];

    public void Raise(MachineEvent happened)
    {
        int interval = EventCatalogue.Of(happened).Interval;
        if (interval == 0)
        {
            pass(happened);
            return;
        }
        (Type, string) key = (happened.GetType(), happened.Subject);
        if (!_kinds.TryGetValue(key, out Kind? kind)) _kinds.Add(key, kind = new Kind());
        if (kind.IsWaiting) kind.Last = happened;
        else Pass(kind, happened, interval);
    }

    public void Dispose()
    {
        foreach (Kind kind in _kinds.Values) kind.Timer?.Dispose();
    }

    void Pass(Kind kind, MachineEvent happened, int interval)
    {
        pass(happened);
        (kind.IsWaiting, kind.Last) = (true, null);
        kind.Timer ??= time.CreateTimer(_ => post(() => IsOver(kind, interval)), null, Timeout.InfiniteTimeSpan,
            Timeout.InfiniteTimeSpan);
        kind.Timer.Change(TimeSpan.FromMilliseconds(interval), Timeout.InfiniteTimeSpan);
    }

    void IsOver(Kind kind, int interval)
    {
        if (kind.Last is { } last) Pass(kind, last, interval);
        else kind.IsWaiting = false;
    }
}
