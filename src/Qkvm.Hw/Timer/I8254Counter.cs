using Qkvm.Core.State;
using static Qkvm.Core.Time.TickClock;

namespace Qkvm.Hw.Timer;

/// <summary>One counter of the 8254, as functions of the time in its clock's ticks.</summary>
public sealed class I8254Counter
{
    const byte Bcd = 0x01, RwMask = 0x30, RwLsb = 0x10, RwMsb = 0x20, StatusOut = 0x80, StatusNullCount = 0x40;

    byte _control;                                                 // RW, M and BCD bits of the control word
    byte _low;                                                     // the LSB of a count half written
    bool _expectMsb, _readMsb;
    ushort _latch;
    byte _latchedBytes;                                            // of the count, still to be read
    byte _status;
    bool _statusLatched;
    int _reload;                                                   // what was written, 1 to 65536
    int _count;                                                    // what is being counted
    bool _loaded;                                                  // a count was written since the control word
    bool _running;
    bool _gate;
    long _start;                                                   // when counting began
    long _held;                                                    // ticks counted before GATE fell
    long _takeover;                                                // when _reload replaces _count; 0: it has

    public I8254Counter() => Reset(gate: true);

    public int Mode => (_control >> 1 & 7) is var mode && mode > 5 ? mode & 3 : mode;
    public bool Gate => _gate;

    /// <summary>Its OUT goes on for ever.</summary>
    public bool IsPeriodic => Mode is 2 or 3;

    public bool IsRunning => _running;

    /// <summary>What is being counted at that tick.</summary>
    public int Count(long now) => (int)CycleAt(now).Count;

    bool IsBcd => (_control & Bcd) != 0;
    int Modulus => IsBcd ? 10_000 : 0x10000;

    /// <summary>Undefined in the sheet; QEMU's state: a square wave once a count is written.</summary>
    public void Reset(bool gate)
    {
        _gate = gate;
        Program(RwMask | 3 << 1);
        _reload = _count = Modulus;
        _start = 0;
    }

    public void Program(byte controlWord)
    {
        _control = (byte)(controlWord & 0x3F);
        _low = _latchedBytes = _status = 0;
        _latch = 0;
        _expectMsb = _readMsb = _statusLatched = _loaded = _running = false;
        _held = _takeover = 0;
    }

    /// <summary>Returns whether OUT may have changed.</summary>
    public bool Write(byte data, long now)
    {
        int count;
        switch (_control & RwMask)
        {
            case RwLsb: count = data; break;
            case RwMsb: count = data << 8; break;
            default:
                _expectMsb = !_expectMsb;
                if (_expectMsb)
                {
                    _low = data;
                    return Disable(now);
                }
                count = data << 8 | _low;
                break;
        }
        Load(count, now);
        return true;
    }

    /// <summary>The first byte of two stops mode 0, OUT low at once; it does nothing else in other modes. "Mode 0",
    /// "Mode 4".</summary>
    bool Disable(long now)
    {
        if (Mode != 0) return false;
        if (_running) _held = now - _start;
        _running = false;
        return true;
    }

    bool IsDisabled => _expectMsb && Mode == 0;

    public byte Read(long now)
    {
        if (_statusLatched)
        {
            _statusLatched = false;
            return _status;
        }
        if (_latchedBytes > 0)
        {
            byte part = (_control & RwMask) == RwMsb
                || _latchedBytes == 1 && (_control & RwMask) == RwMask ? (byte)(_latch >> 8) : (byte)_latch;
            _latchedBytes--;
            return part;
        }
        int value = Current(now);
        switch (_control & RwMask)
        {
            case RwLsb: return (byte)value;
            case RwMsb: return (byte)(value >> 8);
            default:
                _readMsb = !_readMsb;
                return _readMsb ? (byte)value : (byte)(value >> 8);
        }
    }

    /// <summary>Counter latch and read-back commands; a latch not yet read stays.</summary>
    public void Latch(bool count, bool status, long now)
    {
        if (status && !_statusLatched)
        {
            bool isCounted = _loaded && now >= _takeover;
            _status = (byte)(_control | (Wave(now).Out ? StatusOut : 0) | (isCounted ? 0 : StatusNullCount));
            _statusLatched = true;
        }
        if (!count || _latchedBytes > 0) return;
        _latch = (ushort)Current(now);
        _latchedBytes = (byte)((_control & RwMask) == RwMask ? 2 : 1);
    }

    /// <summary>"Gate Pin Operations Summary".</summary>
    public void SetGate(bool level, long now)
    {
        if (level == _gate) return;
        _gate = level;
        if (!_loaded || IsDisabled) return;
        switch (Mode)
        {
            case 0 or 4 when level: Begin(now - _held); break;
            case 0 or 4:
                _held = now - _start;
                _running = false;
                break;
            case 1 or 5:
                if (level) Trigger(now);
                break;
            default:
                Settle(now);
                if (_takeover > 0) _takeover = Never;              // nothing ends before the trigger
                _running = false;
                if (level) Trigger(now);
                break;
        }
    }

    /// <summary>"Mode Definitions": the level of OUT and the tick of its next edge.</summary>
    public (bool Out, long NextEdge) Wave(long now)
    {
        int mode = Mode;
        if (IsDisabled) return (false, Never);
        if (!_running) return (mode != 0 || _loaded && _held >= _count, Never);
        (long n, long start) = CycleAt(now);
        long t = now - start, high = (n + 1) / 2, cycle = now - t % n;
        if (mode is 2 or 3 && n == 1) return (true, Never);        // an illegal count
        return mode switch
        {
            0 or 1 => t < n ? (false, start + n) : (true, Never),
            2 => t % n < n - 1 ? (true, cycle + n - 1) : (false, cycle + n),
            3 => t % n < high ? (true, cycle + high) : (false, cycle + n),
            _ => t == n ? (false, start + n + 1) : (true, t < n ? start + n : Never),
        };
    }

    public void Exchange(StateStream state)
    {
        state.Field("control", ref _control);
        state.Field("low", ref _low);
        state.Field("expect-msb", ref _expectMsb);
        state.Field("read-msb", ref _readMsb);
        state.Field("latch", ref _latch);
        state.Field("latched-bytes", ref _latchedBytes);
        state.Field("status", ref _status);
        state.Field("status-latched", ref _statusLatched);
        state.Field("reload", ref _reload);
        state.Field("count", ref _count);
        state.Field("loaded", ref _loaded);
        state.Field("running", ref _running);
        state.Field("gate", ref _gate);
        state.Field("start", ref _start);
        state.Field("held", ref _held);
        state.Field("takeover", ref _takeover);
        if (_count is < 1 or > 0x10000 || _reload is < 1 or > 0x10000 || _latchedBytes > 2 || _start < -0x10000
            || _held < 0 || _takeover < 0)
            throw new InvalidStateException("i8254: impossible counter state");
    }

    /// <summary>"Mode 2", "Mode 3": writing a new count does not affect the sequence; it is loaded at the end of the
    /// cycle, or half-cycle. Modes 1 and 5 load it by a trigger, the others on the next CLK pulse.</summary>
    void Load(int written, long now)
    {
        Settle(now);
        bool isFirst = !_loaded;
        int count = IsBcd ? FromBcd(written) % Modulus : written;
        _reload = count == 0 ? Modulus : count;
        _loaded = true;
        if (Mode is 1 or 5)
        {
            _takeover = Never;
            return;
        }
        if (Mode is 2 or 3 && !isFirst)
        {
            _takeover = _running ? EndOfSequence(now) : Never;
            return;
        }
        _count = _reload;
        _held = _takeover = 0;
        if (_gate) Begin(now);
    }

    long EndOfSequence(long now)
    {
        long t = (now - _start) % _count, high = (_count + 1) / 2;
        return now - t + (Mode == 3 && t < high ? high : _count);
    }

    /// <summary>The count that runs at that tick, and when its cycle began.</summary>
    (long Count, long Start) CycleAt(long now)
    {
        if (_takeover == 0 || now < _takeover) return (_count, _start);
        bool isLowHalf = (_takeover - _start) % _count != 0;       // of mode 3: its cycle began before
        return (_reload, isLowHalf ? _takeover - (_reload + 1) / 2 : _takeover);
    }

    void Settle(long now)
    {
        if (_takeover == 0 || now < _takeover) return;
        (long count, _start) = CycleAt(now);
        _count = (int)count;
        _takeover = 0;
    }

    void Trigger(long now)
    {
        _count = _reload;
        _takeover = 0;
        Begin(now);
    }

    void Begin(long now)
    {
        _start = now;
        _running = true;
    }

    int Current(long now)
    {
        (long n, long start) = CycleAt(now);
        long t = _running ? now - start : _held;
        long value = Mode switch
        {
            2 => n - t % n,
            3 => n - 2 * t % n,
            _ => n - t % Modulus + Modulus,
        };
        int count = (int)(value % Modulus);
        return IsBcd ? ToBcd(count) : count;
    }

    static int FromBcd(int bcd) => (bcd >> 12) * 1000 + (bcd >> 8 & 15) * 100 + (bcd >> 4 & 15) * 10 + (bcd & 15);
    static int ToBcd(int value) => value / 1000 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10;
}
