using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Timer;

/// <summary>High Precision Event Timers: one block of three. Spec: IA-PC HPET 1.0a; names are the
/// specification's.</summary>
/// <remarks>The board maps it at FED00000h, 400h bytes with <see cref="Sizes"/>, and leads the 8254's and the real-time
/// clock's outputs through <see cref="SetPit"/> and <see cref="SetRtc"/>: legacy replacement puts timers 0 and 1 in
/// their places. Ticks of timer 0 in the 8254's place are made up for as its are. Deviations: no FSB delivery; a
/// comparator written behind the counter matches at once, and a one-shot matches once.</remarks>
public sealed class Hpet : IDevice, IRegisterBank
{
    public const ulong RegionSize = 0x400;
    public static readonly AccessSizes Sizes = new(4, 8, 4, 8);

    // Section 2.3.3, quadword registers
    const ulong Capabilities = 0x000, Configuration = 0x010, InterruptStatus = 0x020, MainCounter = 0x0F0,
        FirstTimer = 0x100, TimerStride = 0x20;
    const ulong TimerConfiguration = 0x00, TimerComparator = 0x08;
    const ulong Enable = 1, LegacyReplacement = 2;
    const int Timers = 3, NanosecondsPerTick = 10;
    // femtoseconds; Intel, 64 bits, legacy route, 3 timers
    const ulong CapabilitiesValue = (ulong)NanosecondsPerTick * 1_000_000 << 32 | 0x8086A201;
    const int PitIrq = 0, RtcIrq = 8;
    const ulong MinimumWait = 2_000;                               // ticks between matches of a period however short
    const ulong MaxTicksBehind = 10;                               // as the 8254's
    const ulong MaxTicks = long.MaxValue / NanosecondsPerTick / 2; // longer than a machine runs

    readonly IVirtualClock _clock;
    readonly uint _routes;
    readonly IrqLine?[] _lines = new IrqLine?[32];
    readonly HpetTimer[] _timers = [new(), new(), new()];
    readonly IVmTimer[] _alarms = new IVmTimer[Timers];
    readonly long[] _due = new long[Timers];
    readonly TickFeedback _ticks;
    ulong _owed;                                                   // ticks of timer 0 that the guest had no time for
    ulong _configuration;
    uint _status;
    ulong _halted;                                                 // the counter while disabled
    long _started;                                                 // clock tick at which an enabled counter was zero
    // The inputs' levels, which pass while legacy replacement is off; no reset of ours changes them.
    bool _pit, _rtc;

    /// <param name="irq">A wire to a global system interrupt.</param>
    /// <param name="routes">INT_ROUTE_CAP: the interrupts that timers can be routed to.</param>
    /// <param name="ticks">About IRQ 0.</param>
    public Hpet(IVirtualClock clock, Func<int, IrqLine> irq, uint routes, TickFeedback? ticks = null)
    {
        (_clock, _routes, _ticks) = (clock, routes, ticks ?? TickFeedback.None());
        _ticks.Taken += TickTaken;
        for (int i = 0; i < _lines.Length; i++)
            if ((routes >> i & 1) != 0 || i is PitIrq or RtcIrq) _lines[i] = irq(i);
        for (int i = 0; i < Timers; i++)
        {
            int timer = i;
            _alarms[i] = clock.CreateTimer(() => Match(timer));
        }
        Reset();
    }

    public string Name => "hpet";
    public bool IsLegacyReplacement => (_configuration & LegacyReplacement) != 0;

    bool IsEnabled => (_configuration & Enable) != 0;
    long ClockTicks => _clock.Nanoseconds / NanosecondsPerTick;
    ulong Counter => IsEnabled ? (ulong)(ClockTicks - _started) : _halted;

    public void Reset()
    {
        _configuration = _halted = 0;
        _started = 0;
        _status = 0;
        _owed = 0;
        for (int i = 0; i < Timers; i++)
        {
            _timers[i].Reset();
            Arm(i, TickClock.Never);
        }
        DriveAll();
    }

    /// <summary>The 8254's OUT 0.</summary>
    public void SetPit(bool level)
    {
        _pit = level;
        Drive(PitIrq);
    }

    /// <summary>The real-time clock's IRQ.</summary>
    public void SetRtc(bool level)
    {
        _rtc = level;
        Drive(RtcIrq);
    }

    public ulong Read(ulong offset, int size)
    {
        ulong value = ReadRegister(offset & ~7UL);
        return (offset & 4) == 0 ? value : value >> 32;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        ulong register = offset & ~7UL;
        int shift = (int)(offset & 4) * 8;
        ulong mask = size == 8 ? ulong.MaxValue : 0xFFFFFFFFUL << shift;
        value = value << shift & mask;
        switch (register)
        {
            case Configuration: WriteConfiguration(_configuration & ~mask | value); return;
            case InterruptStatus:
                _status &= ~(uint)value;
                DriveAll();
                return;
            case MainCounter:
                if (!IsEnabled) _halted = _halted & ~mask | value; // writable while halted, section 2.3.7
                return;
        }
        int index = (int)((register - FirstTimer) / TimerStride);
        if (register < FirstTimer || index >= Timers) return;
        HpetTimer timer = _timers[index];
        switch (register % TimerStride)
        {
            case TimerConfiguration:
                timer.WriteConfiguration(timer.Configuration(0) & ~mask | value);
                if (!timer.IsLevel || !timer.IsEnabled) _status &= ~(1u << index);
                break;
            case TimerComparator: timer.WriteComparator(timer.WrittenValue & ~mask | value); break;
            default: return;
        }
        Schedule(index, register % TimerStride == TimerComparator);
        DriveAll();
    }

    public void Exchange(StateStream state)
    {
        state.Field("configuration", ref _configuration);
        state.Field("status", ref _status);
        state.Field("halted", ref _halted);
        state.Field("started", ref _started);
        state.Field("pit", ref _pit);
        state.Field("rtc", ref _rtc);
        state.Field("owed", ref _owed);
        for (int i = 0; i < Timers; i++)
        {
            StateStream group = state.Group("timer", i);
            _timers[i].Exchange(group);
            group.Field("due", ref _due[i]);
        }
        if (!state.IsLoading) return;
        _configuration &= Enable | LegacyReplacement;
        _status &= (1 << Timers) - 1;
        for (int i = 0; i < Timers; i++) Arm(i, _due[i]);
        for (int i = 0; i < _lines.Length; i++) _lines[i]?.Restore(Level(i));
    }

    ulong ReadRegister(ulong register)
    {
        switch (register)
        {
            case Capabilities: return CapabilitiesValue;
            case Configuration: return _configuration;
            case InterruptStatus: return _status;
            case MainCounter: return Counter;
        }
        int index = (int)((register - FirstTimer) / TimerStride);
        if (register < FirstTimer || index >= Timers) return 0;
        return (register % TimerStride) switch
        {
            TimerConfiguration => _timers[index].Configuration(_routes),
            TimerComparator => _timers[index].Comparator,
            _ => 0,
        };
    }

    void WriteConfiguration(ulong value)
    {
        ulong counter = Counter;
        _configuration = value & (Enable | LegacyReplacement);
        if (IsEnabled) _started = ClockTicks - (long)counter;
        else _halted = counter;
        for (int i = 0; i < Timers; i++) Schedule(i);
        DriveAll();
    }

    /// <param name="comparatorWritten">One behind the counter then matches at once, else when the counter comes
    /// round.</param>
    void Schedule(int index, bool comparatorWritten = false)
    {
        HpetTimer timer = _timers[index];
        if (index == 0 && (comparatorWritten || !IsOwing)) _owed = 0;
        if (!IsEnabled || !timer.IsEnabled) { Arm(index, TickClock.Never); return; }
        if (!comparatorWritten && _due[index] <= _clock.Nanoseconds) return; // a match that the host is late with
        ulong ticks = comparatorWritten ? timer.TicksToMatch(Counter) : timer.TicksAhead(Counter);
        Arm(index, ticks > MaxTicks ? TickClock.Never : (ClockTicks + (long)ticks) * NanosecondsPerTick);
    }

    void Match(int index)
    {
        HpetTimer timer = _timers[index];
        Arm(index, TickClock.Never);
        ulong passed = timer.PeriodsPassed(Counter);
        if (timer.Advance(Counter))
        {
            ulong wait = Math.Max(timer.TicksToMatch(Counter), Math.Min(timer.Period, MinimumWait));
            Arm(index, wait > MaxTicks ? TickClock.Never : (ClockTicks + (long)wait) * NanosecondsPerTick);
        }
        int route = RouteOf(index);
        if (timer.IsLevel)
        {
            _status |= 1u << index;
            Drive(route);
        }
        else if (index == 0 && IsOwing)
        {
            _owed = Math.Min(_owed + passed, MaxTicksBehind);
            PayTick();
        }
        else Pulse(route);
    }

    /// <summary>Timer 0 ticks in the 8254's place.</summary>
    bool IsOwing => IsEnabled && IsLegacyReplacement
        && _timers[0] is { IsEnabled: true, IsPeriodic: true, IsLevel: false };

    void PayTick()
    {
        if (_owed == 0 || _ticks.IsWaiting) return;
        _owed--;
        Pulse(PitIrq);
        if (!_ticks.IsWaiting) _owed = 0;                          // nobody listens
    }

    void TickTaken()
    {
        if (!IsOwing) return;
        if (_due[0] <= _clock.Nanoseconds) Match(0);
        else PayTick();
    }

    void Pulse(int route)
    {
        if (_lines[route] is not { } line) return;
        line.Set(false);
        line.Set(true);
        Drive(route);
    }

    void Arm(int index, long due)
    {
        _due[index] = due;
        if (due == TickClock.Never) _alarms[index].Cancel();
        else _alarms[index].ArmAt(due);
    }

    int RouteOf(int index) => IsLegacyReplacement && index < 2 ? index == 0 ? PitIrq : RtcIrq : _timers[index].Route;

    bool Level(int route)
    {
        if (!IsLegacyReplacement && (route == PitIrq && _pit || route == RtcIrq && _rtc)) return true;
        for (int i = 0; i < Timers; i++)
            if ((_status >> i & 1) != 0 && RouteOf(i) == route) return true;
        return false;
    }

    void Drive(int route) => _lines[route]?.Set(Level(route));

    void DriveAll()
    {
        for (int i = 0; i < _lines.Length; i++) Drive(i);
    }
}
