using System.Numerics;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Intc;

/// <summary>Programmable Interrupt Controller. Spec: Intel 8259A data sheet, order 231468; names are the
/// sheet's.</summary>
/// <remarks>Deviations: only 8086 mode; an edge request stays latched when its input falls before the
/// acknowledge.</remarks>
public sealed class I8259(string name, IrqLine output, byte edgeLevelWritable) : IRegisterBank
{
    // A0 = 0: ICW1, OCW2, OCW3, IRR or ISR; A0 = 1: the rest
    const int CommandPort = 0;
    const byte Icw1 = 0x10, Icw1NeedsIcw4 = 0x01, Icw1Single = 0x02, Icw1Level = 0x08;
    const byte Icw4AutoEoi = 0x02, Icw4SpecialFullyNested = 0x10;
    const byte Ocw3 = 0x08, Ocw3Poll = 0x04, Ocw3ReadRegister = 0x02, Ocw3ReadIsr = 0x01, Ocw3SetSpecialMask = 0x40,
        Ocw3SpecialMask = 0x20;

    byte _inputs;
    byte _irr, _isr, _imr;
    byte _icw1, _vectorBase, _icw3, _icw4;
    byte _expected;                                                // the next ICW, 2 to 4; 0 after initialization
    byte _highest;                                                 // the input of highest priority
    byte _edgeLevel;
    bool _readIsr, _poll, _specialMask, _rotateOnAutoEoi;

    public byte VectorBase => _vectorBase;

    /// <summary>ELCR: inputs that are level triggered. Intel 82371AB (PIIX4), section 4.2.5.</summary>
    public byte EdgeLevel
    {
        get => _edgeLevel;
        set
        {
            _edgeLevel = (byte)(value & edgeLevelWritable);
            Update();
        }
    }

    public byte Irr => _irr;
    public byte Isr => _isr;
    public byte Imr => _imr;

    /// <summary>A request that is not masked has not been acknowledged.</summary>
    public bool IsWaiting(int input) => _expected == 0 && (_irr & ~_imr & 1 << input) != 0;

    byte LevelTriggered => (_icw1 & Icw1Level) != 0 ? (byte)0xFF : _edgeLevel;

    /// <summary>A slave's requests of higher priority pass while its master serves an earlier one of it.</summary>
    bool IsSpecialFullyNested => (_icw4 & Icw4SpecialFullyNested) != 0;

    public void Reset()
    {
        _inputs = _irr = _isr = _imr = _icw1 = _vectorBase = _icw3 = _icw4 = _expected = _highest = _edgeLevel = 0;
        _readIsr = _poll = _specialMask = _rotateOnAutoEoi = false;
        Update();
    }

    public void SetIrq(int input, bool level)
    {
        byte bit = (byte)(1 << input);
        bool rises = level && (_inputs & bit) == 0;
        _inputs = (byte)(level ? _inputs | bit : _inputs & ~bit);
        if (rises) _irr |= bit;
        if (!level && (LevelTriggered & bit) != 0) _irr &= (byte)~bit;
        Update();
    }

    public ulong Read(ulong offset, int size)
    {
        if (_poll)
        {
            _poll = false;
            int request = HighestRequest();
            if (request < 0) return 0;
            BeginService(request);
            return (ulong)(0x80 | request);
        }
        if (offset != CommandPort) return _imr;
        return _readIsr ? _isr : _irr;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        byte data = (byte)value;
        if (offset != CommandPort) WriteData(data);
        else if ((data & Icw1) != 0) Initialize(data);
        else if ((data & Ocw3) != 0) OperationControl3(data);
        else OperationControl2(data);
        Update();
    }

    /// <summary>The input to serve now, or -1.</summary>
    public int HighestRequest()
    {
        int request = Rank((byte)(_irr & ~_imr));
        if (request == NoRank) return -1;
        byte serving = _specialMask ? (byte)(_isr & ~_imr) : _isr;
        if (IsSpecialFullyNested) serving &= (byte)~_icw3;
        return request < Rank(serving) ? _highest + request & 7 : -1;
    }

    /// <summary>The first INTA pulse. INT drops, and rises again where another request waits.</summary>
    public void BeginService(int input)
    {
        byte bit = (byte)(1 << input);
        if ((_icw4 & Icw4AutoEoi) == 0) _isr |= bit;
        else if (_rotateOnAutoEoi) _highest = (byte)(input + 1 & 7);
        if ((LevelTriggered & bit) == 0) _irr &= (byte)~bit;
        output.Set(false);
        Update();
    }

    /// <summary>The level of an input.</summary>
    public bool Input(int input) => (_inputs & 1 << input) != 0;

    /// <summary>The line of `info pic`.</summary>
    public string Describe(int number) => $"pic{number}: irr={_irr:x2} imr={_imr:x2} isr={_isr:x2} hprio={_highest} "
        + $"irq_base={_vectorBase:x2} rr_sel={(_readIsr ? 1 : 0)} elcr={_edgeLevel:x2} "
        + $"fnm={(IsSpecialFullyNested ? 1 : 0)}\n";

    public void Exchange(StateStream state)
    {
        state.Field("inputs", ref _inputs);
        state.Field("irr", ref _irr);
        state.Field("isr", ref _isr);
        state.Field("imr", ref _imr);
        state.Field("icw1", ref _icw1);
        state.Field("vector-base", ref _vectorBase);
        state.Field("icw3", ref _icw3);
        state.Field("icw4", ref _icw4);
        state.Field("expected-icw", ref _expected);
        state.Field("highest", ref _highest);
        state.Field("edge-level", ref _edgeLevel);
        state.Field("read-isr", ref _readIsr);
        state.Field("poll", ref _poll);
        state.Field("special-mask", ref _specialMask);
        state.Field("rotate-on-auto-eoi", ref _rotateOnAutoEoi);
        if (_highest > 7 || _expected is 1 or > 4) throw new InvalidStateException($"{name}: impossible state");
        if (state.IsLoading) output.Restore(_expected == 0 && HighestRequest() >= 0);
    }

    void Initialize(byte icw1)
    {
        _icw1 = icw1;
        _imr = _isr = _highest = _icw4 = 0;
        _readIsr = _poll = _specialMask = _rotateOnAutoEoi = false;
        _irr = (byte)(_inputs & LevelTriggered);                   // the edge sense circuit is reset
        _expected = 2;
        output.Set(false);
    }

    void WriteData(byte data)
    {
        bool needsIcw4 = (_icw1 & Icw1NeedsIcw4) != 0;
        switch (_expected)
        {
            case 2:
                _vectorBase = (byte)(data & 0xF8);
                _expected = (byte)((_icw1 & Icw1Single) == 0 ? 3 : needsIcw4 ? 4 : 0);
                break;
            case 3:
                _icw3 = data;
                _expected = (byte)(needsIcw4 ? 4 : 0);
                break;
            case 4:
                _icw4 = data;
                _expected = 0;
                break;
            default:
                _imr = data;
                break;
        }
    }

    void OperationControl2(byte data)
    {
        int level = data & 7;
        switch (data >> 5)
        {
            case 0: _rotateOnAutoEoi = false; break;
            case 4: _rotateOnAutoEoi = true; break;
            case 1: EndOfInterrupt(rotate: false); break;
            case 5: EndOfInterrupt(rotate: true); break;
            case 3: _isr &= (byte)~(1 << level); break;
            case 7:
                _isr &= (byte)~(1 << level);
                _highest = (byte)(level + 1 & 7);
                break;
            case 6: _highest = (byte)(level + 1 & 7); break;
        }
    }

    void OperationControl3(byte data)
    {
        if ((data & Ocw3Poll) != 0) _poll = true;
        if ((data & Ocw3ReadRegister) != 0) _readIsr = (data & Ocw3ReadIsr) != 0;
        if ((data & Ocw3SetSpecialMask) != 0) _specialMask = (data & Ocw3SpecialMask) != 0;
    }

    /// <summary>Non-specific EOI; in special mask mode it does not see masked levels ("Special Mask Mode").</summary>
    void EndOfInterrupt(bool rotate)
    {
        int rank = Rank(_specialMask ? (byte)(_isr & ~_imr) : _isr);
        if (rank == NoRank) return;
        int level = _highest + rank & 7;
        _isr &= (byte)~(1 << level);
        if (rotate) _highest = (byte)(level + 1 & 7);
    }

    const int NoRank = 8;

    /// <summary>Priority of the best of these inputs, 0 first, 8 for none.</summary>
    int Rank(byte inputs)
    {
        uint rotated = (uint)(inputs >> _highest | inputs << 8 - _highest) & 0xFF;
        return rotated == 0 ? NoRank : BitOperations.TrailingZeroCount(rotated);
    }

    void Update()
    {
        _irr |= (byte)(_inputs & LevelTriggered);
        output.Set(_expected == 0 && HighestRequest() >= 0);
    }
}
