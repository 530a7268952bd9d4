using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Timer;

/// <summary>Programmable Interval Timer. Spec: Intel 8254 data sheet, order 231164; names are the sheet's.</summary>
/// <remarks>The board maps it at port 40h, 4 bytes. Nothing ticks: OUT is a function of the time since loading. Counter
/// 0 drives IRQ 0, counter 2 the speaker. A tick that comes while the one before still waits for a processor is held
/// until that has been taken.</remarks>
public sealed class I8254 : IDevice, IRegisterBank
{
    public const uint Hertz = 1_193_182;

    const int ControlWordRegister = 3;                             // A1,A0 = 11; 0..2 are the counters
    const int Speaker = 2;
    // older ones are given up; as many as Linux's check at boot waits for
    const int MaxTicksBehind = 10;
    const int MaxEdgesAtOnce = 64;                                 // a count of 2 must not hold the machine lock

    readonly I8254Counter[] _counters = [new(), new(), new()];
    readonly TickClock _clock;
    readonly IrqLine _irq0;
    readonly TickFeedback _ticks;
    readonly IVmTimer _edge;
    long _nextEdge;
    long _wake;                                                    // when the timer looks: an edge may wait

    public I8254(IVirtualClock clock, IrqLine irq0, TickFeedback? ticks = null)
    {
        _clock = new TickClock(clock, Hertz);
        _irq0 = irq0;
        _ticks = ticks ?? TickFeedback.None();
        _ticks.Taken += CatchUp;
        _edge = clock.CreateTimer(CatchUp);
        Reset();
    }

    public string Name => "i8254";

    public void Reset()
    {
        for (int i = 0; i < _counters.Length; i++) _counters[i].Reset(gate: i != Speaker);
        DriveIrq(_clock.Now);
    }

    public ulong Read(ulong offset, int size) =>
        offset == ControlWordRegister ? (byte)0xFF : _counters[offset].Read(_clock.Now); // write-only on the chip

    public void Write(ulong offset, int size, ulong value)
    {
        byte data = (byte)value;
        bool isCommand = offset == ControlWordRegister;
        int counter = isCommand ? data >> 6 : (int)offset;
        if (counter == 0 && !isCommand) CatchUp();                 // what is due has the old count
        bool changed = isCommand ? Command(data) : _counters[counter].Write(data, _clock.Now);
        if (changed && counter == 0) DriveIrq(_clock.Now);
    }

    /// <summary>Port 61h, bit 5.</summary>
    public bool SpeakerOut => _counters[Speaker].Wave(_clock.Now).Out;

    /// <summary>Ticks of one wave of the speaker's counter; 0 while it makes none.</summary>
    public int SpeakerPeriod => _counters[Speaker] is { IsPeriodic: true, IsRunning: true } counter
        ? counter.Count(_clock.Now) : 0;

    /// <summary>Port 61h, bit 0.</summary>
    public bool SpeakerGate
    {
        get => _counters[Speaker].Gate;
        set => _counters[Speaker].SetGate(value, _clock.Now);
    }

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < _counters.Length; i++) _counters[i].Exchange(state.Group("counter", i));
        bool level = _irq0.Level;
        state.Field("irq0", ref level);
        state.Field("next-edge", ref _nextEdge);
        state.Field("wake", ref _wake);
        if (!state.IsLoading) return;
        _irq0.Restore(level);                                      // not Set: this edge was delivered before saving
        Arm(_wake);
    }

    /// <summary>Returns whether the waveform changed. Latching changes none and must not skip a pending edge.</summary>
    bool Command(byte word)
    {
        const byte ReadBack = 0xC0, NotCount = 0x20, NotStatus = 0x10, RwMask = 0x30;
        if (word >= ReadBack)
        {
            for (int i = 0; i < _counters.Length; i++)
                if ((word & 2 << i) != 0)
                    _counters[i].Latch((word & NotCount) == 0, (word & NotStatus) == 0, _clock.Now);
            return false;
        }
        if ((word & RwMask) == 0)
        {
            _counters[word >> 6].Latch(count: true, status: false, _clock.Now);
            return false;
        }
        _counters[word >> 6].Program(word);
        return true;
    }

    void DriveIrq(long tick)
    {
        (bool level, _nextEdge) = _counters[0].Wave(tick);
        _irq0.Set(level);
        Arm(_nextEdge);
    }

    void Arm(long tick)
    {
        _wake = tick;
        _clock.Arm(_edge, tick);
    }

    /// <summary>Goes through the edges that are due, each at its own time and not at Now: a late host timer must lose
    /// none.</summary>
    void CatchUp()
    {
        long now = _clock.Now;
        if (_nextEdge > now) return;
        // a single shot has one edge, however late, and must not be given up
        long tick = !_counters[0].IsPeriodic ? _nextEdge
            : Math.Max(_nextEdge, now - MaxTicksBehind * (long)_counters[0].Count(now));
        for (int i = 0; i < MaxEdgesAtOnce && tick <= now; i++)
        {
            (bool level, long next) = _counters[0].Wave(tick);
            if (level && !_irq0.Level && _ticks.IsWaiting)
            {
                Arm(_counters[0].Wave(now).NextEdge);              // in case that nobody will say
                return;
            }
            _irq0.Set(level);
            tick = _nextEdge = next;
        }
        Arm(_nextEdge);
    }
}
