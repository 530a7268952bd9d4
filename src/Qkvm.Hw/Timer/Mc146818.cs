using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Timer;

/// <summary>Real-time clock with 128 bytes of CMOS RAM. Spec: Motorola MC146818A data sheet; names are the
/// sheet's.</summary>
/// <remarks>The board maps it at port 70h, 2 bytes. Time is a start time plus the machine's clock. CMOS RAM and time
/// survive Reset as the battery lets them. Deviations: no daylight saving, no square wave; an update takes no
/// time.</remarks>
public sealed class Mc146818 : IDevice, IRegisterBank
{
    public const int CmosSize = 128;

    const int IndexPort = 0;
    const byte NmiMask = 0x80;

    // "Address Map"; the century is the PC's
    const int Seconds = 0, SecondsAlarm = 1, Minutes = 2, MinutesAlarm = 3, Hours = 4, HoursAlarm = 5, DayOfWeek = 6,
        DayOfMonth = 7,
        Month = 8, Year = 9, RegisterA = 10, RegisterB = 11, RegisterC = 12, RegisterD = 13, Century = 0x32;
    const byte UpdateInProgress = 0x80, DividerMask = 0x70, DividerReset = 0x60, RateMask = 0x0F;       // register A
    const byte Set = 0x80, PeriodicEnable = 0x40, AlarmEnable = 0x20, UpdateEndedEnable = 0x10, SquareWave = 0x08,
        Binary = 0x04, Hours24 = 0x02;
    const byte InterruptRequest = 0x80, PeriodicFlag = 0x40, AlarmFlag = 0x20, UpdateEndedFlag = 0x10;  // register C
    const byte ValidRamAndTime = 0x80;                             // register D
    const byte AnyTime = 0xC0, Afternoon = 0x80;                   // alarm bytes that match always; 12-hour mode
    const uint TimeBase = 32_768;
    const long TicksPerSecond = TimeSpan.TicksPerSecond, UpdateWarning = 244 * TimeSpan.TicksPerMicrosecond;

    readonly IVirtualClock _clock;
    readonly TickClock _periodicClock;
    readonly IrqLine _irq;
    readonly IVmTimer _periodic, _update;
    readonly byte[] _cmos = new byte[CmosSize];
    byte _index;
    // the date, in DateTime ticks, at the machine's time zero
    long _origin;
    long _seenSecond;                                              // up to which update and alarm flags are set
    long _seenPeriod;                                              // likewise, in ticks of the time base

    /// <param name="start">The date now, in the zone that the guest expects in its clock.</param>
    public Mc146818(IVirtualClock clock, IrqLine irq8, DateTime start)
    {
        (_clock, _irq) = (clock, irq8);
        _periodicClock = new TickClock(clock, TimeBase);
        _periodic = clock.CreateTimer(OnTimer);
        _update = clock.CreateTimer(OnTimer);
        _origin = start.Ticks - clock.Nanoseconds / 100;
        _cmos[RegisterA] = 0x26;
        _cmos[RegisterB] = Hours24;
        Reset();
    }

    public string Name => "mc146818rtc";

    /// <summary>Port 70h, bit 7: NMI is held back.</summary>
    public bool IsNmiMasked => (_index & NmiMask) != 0;

    /// <summary>The date that the clock shows.</summary>
    public DateTime Now => new(Math.Clamp(NowTicks, 0, DateTime.MaxValue.Ticks));

    /// <summary>The RESET pin: interrupts are off.</summary>
    public void Reset()
    {
        _index = 0;
        _cmos[RegisterB] &= unchecked((byte)~(PeriodicEnable | AlarmEnable | UpdateEndedEnable | SquareWave));
        _cmos[RegisterC] = 0;
        _cmos[RegisterD] = ValidRamAndTime;
        Forget();
        UpdateIrq();
    }

    /// <summary>CMOS RAM as the board describes the machine there: memory size, boot order.</summary>
    public byte this[int index]
    {
        get => _cmos[index];
        set => _cmos[index] = value;
    }

    public ulong Read(ulong offset, int size)
    {
        if (offset == IndexPort) return 0xFF;                      // write-only
        int index = _index & 0x7F;
        switch (index)
        {
            case Seconds or Minutes or Hours or DayOfWeek or DayOfMonth or Month or Year or Century:
                if (!IsStopped) ShowTime();
                break;
            case RegisterA: return (byte)(_cmos[RegisterA] | (IsUpdateNear ? UpdateInProgress : 0));
            case RegisterC:
                RaiseFlags();
                byte flags = _cmos[RegisterC];
                _cmos[RegisterC] = 0;
                UpdateIrq();
                return flags;
        }
        return _cmos[index];
    }

    public void Write(ulong offset, int size, ulong value)
    {
        byte data = (byte)value;
        if (offset == IndexPort) { _index = data; return; }
        int index = _index & 0x7F;
        switch (index)
        {
            case Seconds or Minutes or Hours or DayOfWeek or DayOfMonth or Month or Year or Century:
                if (!IsStopped) ShowTime();
                _cmos[index] = data;
                if (!IsStopped) TakeTime(NowTicks % TicksPerSecond);
                break;
            case RegisterA: Control(ref _cmos[RegisterA], (byte)(data & ~UpdateInProgress)); break;
            case RegisterB: Control(ref _cmos[RegisterB],
                (data & Set) != 0 ? (byte)(data & ~UpdateEndedEnable) : data); break;
            case RegisterC or RegisterD: break;                    // read-only
            default: _cmos[index] = data; break;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Block("cmos", _cmos);
        state.Field("index", ref _index);
        state.Field("origin", ref _origin);
        state.Field("seen-second", ref _seenSecond);
        state.Field("seen-period", ref _seenPeriod);
        bool level = _irq.Level;
        state.Field("irq", ref level);
        if (!state.IsLoading) return;
        if (_origin < 0 || _origin > DateTime.MaxValue.Ticks || _seenPeriod < 0 || _seenSecond < 0)
            throw new InvalidStateException("mc146818rtc: impossible time");
        _cmos[RegisterD] = ValidRamAndTime;
        _irq.Restore(level);
        Arm();
    }

    long NowTicks => _origin + _clock.Nanoseconds / 100;
    bool IsStopped => (_cmos[RegisterB] & Set) != 0 || IsDividerReset;
    bool IsDividerReset => (_cmos[RegisterA] & DividerReset) == DividerReset;
    bool IsUpdateNear => !IsStopped && NowTicks % TicksPerSecond >= TicksPerSecond - UpdateWarning;

    /// <summary>Register A, RS3 to RS0: the period in ticks of the 32,768 Hz time base, or 0.</summary>
    long Period
    {
        get
        {
            int rate = _cmos[RegisterA] & RateMask;
            return rate == 0 ? 0 : 1L << (rate <= 2 ? rate + 6 : rate - 1);
        }
    }

    void Control(ref byte register, byte value)
    {
        RaiseFlags();
        bool wasStopped = IsStopped, wasReset = IsDividerReset;
        // what stays in the registers if this stops the clock
        if (!wasStopped) ShowTime();
        register = value;
        // After a divider reset the first update follows in half a second.
        if (wasStopped && !IsStopped) TakeTime(wasReset ? TicksPerSecond / 2 : NowTicks % TicksPerSecond);
        if (!IsStopped && !wasStopped) Forget(periodOnly: true);
        UpdateIrq();
    }

    void ShowTime()
    {
        DateTime now = Now;
        _cmos[Seconds] = Encode(now.Second);
        _cmos[Minutes] = Encode(now.Minute);
        _cmos[Hours] = EncodeHour(now.Hour);
        _cmos[DayOfWeek] = Encode((int)now.DayOfWeek + 1);
        _cmos[DayOfMonth] = Encode(now.Day);
        _cmos[Month] = Encode(now.Month);
        _cmos[Year] = Encode(now.Year % 100);
        _cmos[Century] = Encode(now.Year / 100);
    }

    /// <summary>Starts the clock from the registers; what is out of range is brought into it.</summary>
    void TakeTime(long fraction)
    {
        int year = Math.Clamp(Decode(_cmos[Century]) * 100 + Decode(_cmos[Year]), 1, 9998);
        int month = Math.Clamp(Decode(_cmos[Month]), 1, 12);
        int day = Math.Clamp(Decode(_cmos[DayOfMonth]), 1, DateTime.DaysInMonth(year, month));
        int hour = Math.Min(DecodeHour(_cmos[Hours]), 23), minute = Math.Min(Decode(_cmos[Minutes]), 59),
            second = Math.Min(Decode(_cmos[Seconds]), 59);
        long ticks = new DateTime(year, month, day, hour, minute, second).Ticks + fraction;
        _origin = Math.Max(0, ticks - _clock.Nanoseconds / 100);
        Forget();
        Arm();
    }

    byte Encode(int value) => (byte)((_cmos[RegisterB] & Binary) != 0 ? value : value / 10 << 4 | value % 10);
    int Decode(byte value) => (_cmos[RegisterB] & Binary) != 0 ? value : (value >> 4) * 10 + (value & 15);

    byte EncodeHour(int hour)
    {
        if ((_cmos[RegisterB] & Hours24) != 0) return Encode(hour);
        int half = hour % 12 == 0 ? 12 : hour % 12;
        return (byte)(Encode(half) | (hour >= 12 ? Afternoon : 0));
    }

    int DecodeHour(byte value)
    {
        if ((_cmos[RegisterB] & Hours24) != 0) return Decode(value);
        int half = Decode((byte)(value & ~Afternoon)) % 12;
        return (value & Afternoon) != 0 ? half + 12 : half;
    }

    /// <summary>The time of the alarm has come, whether it interrupts or not.</summary>
    public event Action? Alarm;

    /// <summary>Brings register C up to date: what happened since it was last looked at.</summary>
    void RaiseFlags()
    {
        long period = Period, tick = _periodicClock.Now;
        if (period != 0 && tick / period != _seenPeriod / period) _cmos[RegisterC] |= PeriodicFlag;
        _seenPeriod = tick;
        if (IsStopped) return;
        long second = NowTicks / TicksPerSecond;
        if (second <= _seenSecond) return;
        _cmos[RegisterC] |= UpdateEndedFlag;
        _seenSecond = second;
        if (!IsAlarm()) return;
        _cmos[RegisterC] |= AlarmFlag;
        Alarm?.Invoke();
    }

    bool IsAlarm()
    {
        ShowTime();
        return Matches(SecondsAlarm, Seconds) && Matches(MinutesAlarm, Minutes) && Matches(HoursAlarm, Hours);
    }

    bool Matches(int alarm, int time) => _cmos[alarm] >= AnyTime || _cmos[alarm] == _cmos[time];

    void Forget(bool periodOnly = false)
    {
        _seenPeriod = _periodicClock.Now;
        if (!periodOnly) _seenSecond = NowTicks / TicksPerSecond;
    }

    void OnTimer()
    {
        RaiseFlags();
        UpdateIrq();
    }

    void UpdateIrq()
    {
        const byte Flags = PeriodicFlag | AlarmFlag | UpdateEndedFlag;
        bool request = (_cmos[RegisterC] & _cmos[RegisterB] & Flags) != 0;
        _cmos[RegisterC] = (byte)(_cmos[RegisterC] & Flags | (request ? InterruptRequest : 0));
        _irq.Set(request);
        Arm();
    }

    /// <summary>Wakes for the next periodic interrupt where it is enabled, and at each second while that sets a
    /// flag.</summary>
    void Arm()
    {
        long period = Period;
        bool wantsPeriod = period != 0 && (_cmos[RegisterB] & PeriodicEnable) != 0
            && (_cmos[RegisterC] & PeriodicFlag) == 0;
        _periodicClock.Arm(_periodic, wantsPeriod ? (_periodicClock.Now / period + 1) * period : TickClock.Never);
        bool wantsSecond = !IsStopped
            && (_cmos[RegisterC] & (UpdateEndedFlag | AlarmFlag)) != (UpdateEndedFlag | AlarmFlag);
        if (!wantsSecond) _update.Cancel();
        else _update.ArmAt(((NowTicks / TicksPerSecond + 1) * TicksPerSecond - _origin) * 100);
    }
}
