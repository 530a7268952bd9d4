using Qkvm.Core.Configuration;
using Qkvm.Core.Time;

namespace Qkvm.Core.Block.Throttling;

/// <summary>The groups of a machine by their names. One that no object keeps lives while it has members.</summary>
/// <param name="clock">Goes on while the machine is paused: jobs do too.</param>
/// <param name="post">Runs an action on the main loop under the machine lock.</param>
public sealed class ThrottleGroups(IVirtualClock clock, Action<Action> post)
{
    readonly Lock _lock = new();
    readonly Dictionary<string, (ThrottleGroup Group, bool IsKept)> _all = new(StringComparer.Ordinal);

    /// <summary>Makes one that stays until <see cref="Drop"/>.</summary>
    /// <exception cref="ConfigurationException">A drive has one of that name.</exception>
    public ThrottleGroup Keep(string name)
    {
        lock (_lock)
        {
            Prune();
            if (_all.ContainsKey(name)) throw new ConfigurationException("A group with this name already exists");
            var group = new ThrottleGroup(name, clock, post);
            _all.Add(name, (group, true));
            return group;
        }
    }

    /// <summary>Ends what <see cref="Keep"/> began.</summary>
    public void Drop(ThrottleGroup group)
    {
        lock (_lock)
        {
            _all[group.Name] = (group, false);
            Prune();
        }
    }

    /// <summary>A new member of the group of that name, which is made where there is none.</summary>
    public ThrottleMember Join(string name)
    {
        lock (_lock)
        {
            Prune();
            if (!_all.TryGetValue(name, out (ThrottleGroup Group, bool IsKept) found))
                _all.Add(name, found = (new ThrottleGroup(name, clock, post), false));
            return found.Group.Join();
        }
    }

    /// <summary>The same; null: there is no such group.</summary>
    public ThrottleMember? TryJoin(string name)
    {
        lock (_lock)
        {
            Prune();
            return _all.TryGetValue(name, out (ThrottleGroup Group, bool IsKept) found) ? found.Group.Join() : null;
        }
    }

    void Prune()
    {
        foreach ((string name, (ThrottleGroup group, bool isKept)) in _all)
            if (!isKept && group.MemberCount == 0) _all.Remove(name);
    }
}
