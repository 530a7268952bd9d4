using Qkvm.Core.Time;

namespace Qkvm.Core.Block.Throttling;

/// <summary>Disks and nodes that share limits. A request that would exceed them waits; when its time has come, members
/// take turns. From any thread.</summary>
/// <param name="post">Runs an action on the main loop under the machine lock.</param>
public sealed class ThrottleGroup(string name, IVirtualClock clock, Action<Action> post)
{
    readonly Lock _lock = new();
    readonly List<ThrottleMember> _members = [];
    readonly LeakyBucket[] _buckets = new LeakyBucket[6];          // bytes then requests: in all, read, written
    IVmTimer? _timer;
    Action? _arm;
    long _leaked, _due;                                            // the clock's nanoseconds
    uint _turn;
    bool _isArming;

    public string Name { get; } = name;

    public ThrottleLimits Limits
    {
        get;
        set
        {
            lock (_lock)
            {
                field = value;
                RateLimit[] limits = [value.BytesTotal, value.BytesRead, value.BytesWrite,
                    value.RequestsTotal, value.RequestsRead, value.RequestsWrite];
                for (int i = 0; i < limits.Length; i++) _buckets[i] = new LeakyBucket { Limit = limits[i] };
                _leaked = clock.Nanoseconds;
                if (LetPass()) ArmLater();
            }
        }
    } = ThrottleLimits.None;

    public int MemberCount
    {
        get { lock (_lock) return _members.Count; }
    }

    /// <summary>A new member.</summary>
    public ThrottleMember Join()
    {
        var member = new ThrottleMember(this);
        lock (_lock) _members.Add(member);
        return member;
    }

    internal void Leave(ThrottleMember member)
    {
        lock (_lock)
        {
            _members.Remove(member);
            LetGo(member);
        }
    }

    /// <summary>Whether a request need not wait.</summary>
    internal bool MayPass(bool isWrite)
    {
        lock (_lock)
        {
            LeakAll();
            return !IsAnyWaiting(isWrite) && Wait(isWrite) == 0;
        }
    }

    /// <summary>The same, and counts it then.</summary>
    internal bool TryPass(bool isWrite, long bytes)
    {
        lock (_lock)
        {
            if (!MayPass(isWrite)) return false;
            CountNow(isWrite, bytes);
            return true;
        }
    }

    /// <summary>Keeps a request until its time has come.</summary>
    internal void Hold(ThrottleMember member, bool isWrite, IThrottled request)
    {
        lock (_lock)
        {
            member.Add(isWrite, request);
            if (LetPass()) ArmLater();
        }
    }

    bool IsAnyWaiting(bool isWrite)
    {
        foreach (ThrottleMember member in _members)
            if (member.IsWaiting(isWrite)) return true;
        return false;
    }

    /// <summary>All that waits in it goes on at once, uncounted.</summary>
    internal void LetGo(ThrottleMember member)
    {
        lock (_lock)
            foreach (bool isWrite in (ReadOnlySpan<bool>)[false, true])
                while (member.IsWaiting(isWrite)) member.Release(isWrite);
    }

    /// <summary>Those whose time has come go on.</summary>
    /// <returns>Others wait, until <see cref="_due"/>.</returns>
    bool LetPass()
    {
        LeakAll();
        long soonest = Math.Min(LetPass(isWrite: false), LetPass(isWrite: true));
        if (soonest == long.MaxValue) return false;
        _due = _leaked + soonest;
        return true;
    }

    /// <summary>Nanoseconds until the next of this direction may go.</summary>
    long LetPass(bool isWrite)
    {
        for (int idle = 0; idle < _members.Count;)
        {
            ThrottleMember member = _members[(int)(_turn++ % (uint)_members.Count)];
            if (!member.IsWaiting(isWrite)) { idle++; continue; }
            if (Wait(isWrite) is > 0 and var wait)
            {
                _turn--;
                return wait;
            }
            CountNow(isWrite, member.FirstBytes(isWrite));         // before it goes on and may be another
            member.Release(isWrite);
            idle = 0;
        }
        return long.MaxValue;
    }

    /// <summary>Timers are the main loop's.</summary>
    void ArmLater()
    {
        if (_isArming) return;
        _isArming = true;
        post(_arm ??= () =>
        {
            lock (_lock)
            {
                _isArming = false;
                Arm();
            }
        });
    }

    void Arm() => (_timer ??= clock.CreateTimer(Expired)).ArmAt(_due);

    void Expired()
    {
        lock (_lock)
            if (LetPass()) Arm();
    }

    void LeakAll()
    {
        long now = clock.Nanoseconds;
        for (int i = 0; i < _buckets.Length; i++) _buckets[i].Leak(now - _leaked);
        _leaked = now;
    }

    long Wait(bool isWrite)
    {
        int own = isWrite ? 2 : 1;
        return Math.Max(Math.Max(_buckets[0].Wait, _buckets[own].Wait),
            Math.Max(_buckets[3].Wait, _buckets[3 + own].Wait));
    }

    internal void Count(bool isWrite, long bytes)
    {
        lock (_lock) CountNow(isWrite, bytes);
    }

    void CountNow(bool isWrite, long bytes)
    {
        double requests = Limits.RequestSize > 0 ? Math.Max(1, (double)bytes / Limits.RequestSize) : 1;
        int own = isWrite ? 2 : 1;
        _buckets[0].Add(bytes);
        _buckets[own].Add(bytes);
        _buckets[3].Add(requests);
        _buckets[3 + own].Add(requests);
    }
}
