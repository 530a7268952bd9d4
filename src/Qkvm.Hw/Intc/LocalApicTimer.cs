using System.Numerics;
using Qkvm.Core.Accel;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Intc;

public enum LocalApicTimerMode { OneShot = 0, Periodic = 1, TscDeadline = 2, Reserved = 3 }

/// <summary>A local APIC's timer, counting at 1 GHz. Intel SDM volume 3, section 11.5.4.</summary>
/// <remarks>Deviations: a new divide configuration counts from the start of the running count.</remarks>
public sealed class LocalApicTimer
{
    const long Never = long.MaxValue, NanosecondsPerSecond = 1_000_000_000;
    // nanoseconds between wake-ups for a period however short
    const long MinimumPeriod = 20_000;

    readonly IVirtualClock _clock;
    readonly IVCpu _cpu;
    readonly Action _fire;
    readonly IVmTimer _timer;
    uint _initialCount;
    byte _divide;
    byte _mode;
    ulong _deadline;
    long _start;
    long _due;

    public LocalApicTimer(IVirtualClock clock, IVCpu cpu, Action fire)
    {
        (_clock, _cpu, _fire) = (clock, cpu, fire);
        _timer = clock.CreateTimer(Expire);
        Reset();
    }

    public uint InitialCount => _initialCount;

    /// <summary>Divide Configuration Register: bits 3, 1 and 0.</summary>
    public byte Divide
    {
        get => _divide;
        set
        {
            _divide = (byte)(value & 0x0B);
            if (Mode != LocalApicTimerMode.TscDeadline) ArmCount();
        }
    }

    /// <summary>Switching to or from TSC-deadline mode disarms the timer (section 11.5.4.1); between the others the
    /// count goes on, and one that has reached zero stays there until the initial count is written.</summary>
    public LocalApicTimerMode Mode
    {
        get => (LocalApicTimerMode)_mode;
        set
        {
            if (value == Mode) return;
            long now = _clock.Nanoseconds;
            if (_due <= now) Expire();                             // what is due is of the old mode
            if (Mode == LocalApicTimerMode.Periodic && IsCounting) _start = now - (now - _start) % Period;
            bool disarm = value == LocalApicTimerMode.TscDeadline || Mode == LocalApicTimerMode.TscDeadline;
            _mode = (byte)value;
            if (disarm) Stop();
            else ArmCount();
        }
    }

    public uint CurrentCount
    {
        get
        {
            if (!IsCounting || Mode == LocalApicTimerMode.TscDeadline) return 0;
            ulong elapsed = (ulong)(_clock.Nanoseconds - _start) >> DivideShift;
            if (Mode == LocalApicTimerMode.Periodic) return _initialCount - (uint)(elapsed % _initialCount);
            return elapsed >= _initialCount ? 0 : _initialCount - (uint)elapsed;
        }
    }

    /// <summary>IA32_TSC_DEADLINE; 0 unless armed in that mode.</summary>
    public ulong Deadline
    {
        get => _deadline;
        set
        {
            if (Mode != LocalApicTimerMode.TscDeadline) return;
            _deadline = value;
            if (value == 0) Arm(Never);
            else if (value <= _cpu.TimeStampCounter) Expire();
            else ArmDeadline();
        }
    }

    bool IsCounting => _initialCount != 0 && _due != Never;

    long Period => (long)_initialCount << DivideShift;

    /// <summary>Divide by 2, 4 … 128, and by 1 for 1011b.</summary>
    int DivideShift => ((_divide >> 1 & 4 | _divide & 3) + 1) & 7;

    public void Reset()
    {
        _divide = _mode = 0;
        Stop();
    }

    public void Start(uint initialCount)
    {
        if (Mode == LocalApicTimerMode.TscDeadline) return;
        _initialCount = initialCount;
        _start = _clock.Nanoseconds;
        // However short the count, and although the clock moves on meanwhile: it always ends.
        Arm(initialCount == 0 ? Never : _start + Period);
    }

    public void Exchange(StateStream state)
    {
        state.Field("initial-count", ref _initialCount);
        state.Field("divide", ref _divide);
        state.Field("mode", ref _mode);
        state.Field("deadline", ref _deadline);
        state.Field("start", ref _start);
        state.Field("due", ref _due);
        if (!state.IsLoading) return;
        if (_mode > 3 || (_divide & ~0x0B) != 0 || _start < 0 || _due < 0)
            throw new InvalidStateException("apic: impossible timer");
        Arm(_due);
    }

    void Stop()
    {
        _initialCount = 0;
        _deadline = 0;
        _start = 0;
        Arm(Never);
    }

    void Arm(long due)
    {
        _due = due;
        if (due == Never) _timer.Cancel();
        else _timer.ArmAt(Mode == LocalApicTimerMode.Periodic
            ? Math.Max(due, _clock.Nanoseconds + Math.Min(Period, MinimumPeriod)) : due);
    }

    void ArmCount()
    {
        long now = _clock.Nanoseconds;
        if (!IsCounting) Arm(Never);
        else if (Mode == LocalApicTimerMode.Periodic) Arm(_start + ((now - _start) / Period + 1) * Period);
        else Arm(now - _start < Period ? _start + Period : Never);
    }

    void ArmDeadline()
    {
        ulong now = _cpu.TimeStampCounter, hertz = Math.Max(1, _cpu.TimeStampHertz);
        UInt128 left = _deadline <= now ? 0 : ((UInt128)(_deadline - now) * NanosecondsPerSecond + hertz - 1) / hertz;
        long at = _clock.Nanoseconds;
        Arm(left >= (UInt128)(Never - at) ? Never - 1 : at + (long)left);
    }

    void Expire()
    {
        switch (Mode)
        {
            case LocalApicTimerMode.TscDeadline:
                if (_cpu.TimeStampCounter < _deadline)             // the guest moved its counter
                {
                    ArmDeadline();
                    return;
                }
                _deadline = 0;
                Arm(Never);
                break;
            case LocalApicTimerMode.Periodic: ArmCount(); break;
            default: Arm(Never); break;
        }
        _fire();
    }
}
