using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Pci;

/// <summary>The TCO watchdog of the ICH9: a timer of 0.6 s ticks that, having run out twice without being reloaded,
/// resets the machine. Spec: Intel I/O Controller Hub 9, order 316972, section 13.9 "System Management TCO
/// Registers".</summary>
/// <remarks>Deviations: no SMI, no NMI and no interrupt come of it.</remarks>
public sealed class Ich9Tco : IRegisterBank
{
    // Offsets, section 13.9
    const int Reload = 0x00, DataIn = 0x02, DataOut = 0x03, Status1 = 0x04, Status2 = 0x06, Control1 = 0x08,
        Control2 = 0x0A, Message1 = 0x0C, Message2 = 0x0D, WatchdogControl = 0x0E, SoftIrq = 0x10, Timer = 0x12,
        Size = 0x20;

    const ushort TimeOut = 0x0008, SecondTimeOut = 0x0002, BootStatus = 0x0004;
    const ushort Halt = 0x0800, Locked = 0x1000, NmiNow = 0x0100;
    const ushort TimerMask = 0x03FF, DefaultTimer = 4;
    const long NanosecondsPerTick = 600_000_000;

    readonly IVirtualClock _clock;
    readonly Action _expired;
    readonly IVmTimer _timer;
    readonly byte[] _registers = new byte[Size];
    long _deadline = TickClock.Never;                              // in nanoseconds of the virtual clock

    /// <param name="expired">It has run out for the second time.</param>
    public Ich9Tco(IVirtualClock clock, Action expired)
    {
        (_clock, _expired) = (clock, expired);
        _timer = clock.CreateTimer(RanOut);
        Reset();
    }

    public void Reset()
    {
        bool wasExpired = (Get(Status2) & SecondTimeOut) != 0;
        Array.Clear(_registers);
        Set(Timer, DefaultTimer);
        Set(SoftIrq, 0x03);
        if (wasExpired) Set(Status2, SecondTimeOut | BootStatus);  // in the resume well
        Arm(TickClock.Never);
    }

    public ulong Read(ulong offset, int size)
    {
        if (offset == Reload) return (ulong)Left();
        ulong value = 0;
        for (int i = 0; i < size && (int)offset + i < Size; i++) value |= (ulong)_registers[(int)offset + i] << i * 8;
        return value;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        switch (offset)
        {
            case Reload: Restart(); break;
            case Status1: Set(Status1, (ushort)(Get(Status1) & ~value)); break;
            case Status2: Set(Status2, (ushort)(Get(Status2) & ~value)); break;
            case Control1: WriteControl((ushort)value); break;
            case Timer: Set(Timer, (ushort)(value & TimerMask)); break;
            case DataIn or DataOut or Message1 or Message2 or WatchdogControl or SoftIrq:
                _registers[offset] = (byte)value;
                break;
            case Control2: Set(Control2, (ushort)value); break;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Block("registers", _registers);
        state.Field("deadline", ref _deadline);
        if (state.IsLoading) Arm(_deadline);
    }

    bool IsHalted => (Get(Control1) & Halt) != 0;

    void WriteControl(ushort value)
    {
        ushort old = Get(Control1);
        if ((old & Locked) != 0) value = (ushort)(value & ~Halt | old & Halt | Locked);
        Set(Control1, (ushort)(value & ~NmiNow));
        if (IsHalted) Arm(TickClock.Never);
        else if ((old & Halt) != 0) Restart();
    }

    /// <summary>Less than two ticks are not counted, section 13.9.11.</summary>
    void Restart()
    {
        int ticks = Get(Timer);
        Arm(IsHalted || ticks < 2 ? TickClock.Never : _clock.Nanoseconds + ticks * NanosecondsPerTick);
    }

    long Left() => _deadline == TickClock.Never ? Get(Timer)
        : Math.Max(0, _deadline - _clock.Nanoseconds) / NanosecondsPerTick & TimerMask;

    void RanOut()
    {
        if ((Get(Status1) & TimeOut) == 0)
        {
            Set(Status1, (ushort)(Get(Status1) | TimeOut));
            Restart();
            return;
        }
        Set(Status2, (ushort)(Get(Status2) | SecondTimeOut | BootStatus));
        Arm(TickClock.Never);
        _expired();
    }

    void Arm(long deadline)
    {
        _deadline = deadline;
        if (deadline == TickClock.Never) _timer.Cancel();
        else _timer.ArmAt(deadline);
    }

    ushort Get(int offset) => (ushort)(_registers[offset] | _registers[offset + 1] << 8);

    void Set(int offset, ushort value) => (_registers[offset], _registers[offset + 1]) =
        ((byte)value, (byte)(value >> 8));
}
