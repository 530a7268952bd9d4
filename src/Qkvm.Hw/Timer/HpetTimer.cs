using Qkvm.Core.State;

namespace Qkvm.Hw.Timer;

/// <summary>One comparator of an HPET, as functions of the main counter. IA-PC HPET 1.0a, section 2.3.8.</summary>
public sealed class HpetTimer
{
    // Timer configuration and capability
    const ulong LevelType = 1 << 1, InterruptEnable = 1 << 2, PeriodicType = 1 << 3, PeriodicCapable = 1 << 4,
        Size64 = 1 << 5,
        ValueSet = 1 << 6, Mode32 = 1 << 8, RouteMask = 0x3E00,
        Writable = LevelType | InterruptEnable | PeriodicType | ValueSet | Mode32 | RouteMask;

    ulong _configuration;
    ulong _comparator;
    ulong _period;

    public bool IsLevel => (_configuration & LevelType) != 0;
    public bool IsEnabled => (_configuration & InterruptEnable) != 0;
    public bool IsPeriodic => (_configuration & PeriodicType) != 0;
    public int Route => (int)(_configuration >> 9 & 0x1F);
    public ulong Comparator => _comparator;

    bool Is32 => (_configuration & Mode32) != 0;

    public void Reset()
    {
        _configuration = 0;
        _comparator = ulong.MaxValue;
        _period = 0;
    }

    /// <param name="routes">INT_ROUTE_CAP.</param>
    public ulong Configuration(uint routes) => (ulong)routes << 32 | PeriodicCapable | Size64 | _configuration;

    public void WriteConfiguration(ulong value)
    {
        _configuration = value & Writable;
        if (!Is32) return;
        _comparator = (uint)_comparator;
        _period = (uint)_period;
    }

    public void WriteComparator(ulong value)
    {
        if (Is32) value = (uint)value;
        if (!IsPeriodic || (_configuration & ValueSet) != 0) _comparator = value;
        if (IsPeriodic) _period = value;
        _configuration &= ~ValueSet;
    }

    /// <summary>What a partial write of the comparator merges with.</summary>
    public ulong WrittenValue => IsPeriodic && (_configuration & ValueSet) == 0 ? _period : _comparator;

    /// <summary>Counter ticks until the next match; a comparator just passed matches at once.</summary>
    public ulong TicksToMatch(ulong counter)
    {
        if (Is32) return (uint)Math.Max(0, (int)((uint)_comparator - (uint)counter));
        return (ulong)Math.Max(0, (long)(_comparator - counter));
    }

    /// <summary>Counter ticks until the comparator is reached, round the counter's end if need be.</summary>
    public ulong TicksAhead(ulong counter) => Is32 ? (uint)_comparator - (uint)counter : _comparator - counter;

    /// <summary>After a match: moves a periodic comparator past the counter. False: no further match is to
    /// come.</summary>
    public bool Advance(ulong counter)
    {
        if (!IsPeriodic || _period == 0) return false;
        ulong behind = Is32 ? (uint)counter - (uint)_comparator : counter - _comparator;
        _comparator += (behind / _period + 1) * _period;
        if (Is32) _comparator = (uint)_comparator;
        return true;
    }

    public ulong Period => _period;

    /// <summary>How many matches have come up by this counter since the last one that <see cref="Advance"/>
    /// saw.</summary>
    public ulong PeriodsPassed(ulong counter)
    {
        if (!IsPeriodic || _period == 0) return 1;
        return (Is32 ? (uint)counter - (uint)_comparator : counter - _comparator) / _period + 1;
    }

    public void Exchange(StateStream state)
    {
        state.Field("configuration", ref _configuration);
        state.Field("comparator", ref _comparator);
        state.Field("period", ref _period);
        _configuration &= Writable;
    }
}
