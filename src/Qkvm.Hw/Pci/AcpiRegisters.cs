using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Pci;

/// <summary>ACPI's fixed hardware: PM1 event and control blocks and the power management timer. Spec: ACPI 3.0,
/// sections
/// 4.7.3.1 to 4.7.3.3; offsets as the PIIX4 lays them out (order 290562, section 7.3).</summary>
public sealed class AcpiRegisters : IRegisterBank
{
    // Offsets in the power management block
    const ulong Pm1Status = 0, Pm1Enable = 2, Pm1Control = 4, PmTimer = 8;

    // PM1_STS and PM1_EN
    const ushort TimerOverflow = 0x0001, GlobalLock = 0x0020, PowerButton = 0x0100, RtcAlarm = 0x0400,
        WakeStatus = 0x8000;
    const ushort StatusBits = TimerOverflow | GlobalLock | PowerButton | RtcAlarm | WakeStatus | 0x0010;
    const ushort EnableBits = TimerOverflow | GlobalLock | PowerButton | RtcAlarm;

    // PM1_CNT
    const ushort SciEnable = 0x0001, SleepType = 0x1C00, SleepEnable = 0x2000;
    const int SleepTypeShift = 10, SoftOff = 0, ToRam = 1;         // SLP_TYPx as the DSDT's _S5 and _S3 say

    const uint TimerHertz = 3_579_545;
    const int TimerMsb = 1 << 23;                                  // TMR_STS follows the change of bit 23

    readonly TickClock _clock;
    readonly IrqLine _sci;
    readonly Action<SleepState> _sleep;
    readonly Func<bool> _isGpePending;
    readonly IVmTimer _overflow;
    ushort _status, _enable, _control;
    long _nextOverflow;

    /// <param name="sleep">The guest goes to sleep.</param>
    public AcpiRegisters(IVirtualClock clock, IrqLine sci, Action<SleepState> sleep, Func<bool> isGpePending)
    {
        _clock = new TickClock(clock, TimerHertz);
        _sci = sci;
        _sleep = sleep;
        _isGpePending = isGpePending;
        _overflow = clock.CreateTimer(Update);
        _nextOverflow = NextOverflow();
    }

    public void Reset()
    {
        _status = _enable = _control = 0;
        _nextOverflow = NextOverflow();
        Update();
    }

    /// <summary>Hands the power management registers to the operating system (SCI_EN), or back to firmware.</summary>
    public void SetEnabled(bool enabled)
    {
        _control = (ushort)(enabled ? _control | SciEnable : _control & ~SciEnable);
        Update();
    }

    /// <summary>The power button was pressed; nothing happens while the guest has not enabled its event.</summary>
    public void PressPowerButton()
    {
        if ((_enable & PowerButton) == 0) return;
        _status |= PowerButton;
        Update();
    }

    /// <summary>SLP_TYP of S4, as the DSDT's _S4 says.</summary>
    public int ToDiskType { get; set; } = 2;

    /// <summary>Whether the guest lets this wake it.</summary>
    public bool WakesBy(WakeCause cause) => cause != WakeCause.RtcAlarm || (_enable & RtcAlarm) != 0;

    /// <summary>After the reset that a wake-up is: what has woken the guest. What has no bit of its own is told as the
    /// power button.</summary>
    public void Wake(WakeCause cause)
    {
        _status |= (ushort)(WakeStatus | (cause == WakeCause.RtcAlarm ? RtcAlarm : PowerButton));
        Update();
    }

    public ulong Read(ulong offset, int size)
    {
        uint register = (offset & ~3UL) switch
        {
            Pm1Status => CurrentStatus() | (uint)_enable << 16,
            Pm1Control => _control,
            PmTimer => (uint)_clock.Now & 0xFF_FFFF,
            _ => 0,
        };
        return register >> (int)(offset & 3) * 8;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        for (int i = 0; i < size; i++) WriteByte(offset + (ulong)i, (byte)(value >> (i * 8)));
        Update();
    }

    public void Exchange(StateStream state)
    {
        bool level = _sci.Level;
        state.Field("sci", ref level);
        state.Field("pm1-status", ref _status);
        state.Field("pm1-enable", ref _enable);
        state.Field("pm1-control", ref _control);
        state.Field("next-overflow", ref _nextOverflow);
        if (!state.IsLoading) return;
        _status &= StatusBits;
        _enable &= EnableBits;
        _control &= SciEnable | SleepType;
        _sci.Restore(level);
        ArmOverflow();
    }

    /// <summary>Drives SCI from what is pending and enabled.</summary>
    public void Update()
    {
        bool pending = (CurrentStatus() & _enable) != 0 || _isGpePending();
        _sci.Set(pending && (_control & SciEnable) != 0);
        ArmOverflow();
    }

    void WriteByte(ulong offset, byte value)
    {
        int shift = (int)(offset & 1) * 8;
        switch (offset & ~1UL)
        {
            case Pm1Status:
                CurrentStatus();
                ushort cleared = (ushort)(value << shift);
                _status &= (ushort)~cleared;
                if ((cleared & TimerOverflow) != 0) _nextOverflow = NextOverflow();
                break;
            case Pm1Enable:
                _enable = (ushort)((_enable & ~(0xFF << shift) | value << shift) & EnableBits);
                break;
            case Pm1Control:
                // SCI_EN is firmware's on the chip, but operating systems that find no SMI command port set it
                // themselves.
                int control = _control & ~(0xFF << shift) | value << shift;
                _control = (ushort)(control & (SciEnable | SleepType));
                if ((control & SleepEnable) != 0) Sleep((_control & SleepType) >> SleepTypeShift);
                break;
        }
    }

    void Sleep(int type)
    {
        if (type == SoftOff) _sleep(SleepState.SoftOff);
        else if (type == ToRam) _sleep(SleepState.ToRam);
        else if (type == ToDiskType) _sleep(SleepState.ToDisk);
    }

    ushort CurrentStatus()
    {
        if (_clock.Now >= _nextOverflow) _status |= TimerOverflow;
        return _status;
    }

    long NextOverflow() => (_clock.Now / TimerMsb + 1) * TimerMsb;

    void ArmOverflow()
    {
        bool wanted = (_enable & TimerOverflow) != 0 && (_status & TimerOverflow) == 0;
        _clock.Arm(_overflow, wanted ? _nextOverflow : TickClock.Never);
    }
}
