using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Char;

/// <summary>Universal asynchronous receiver and transmitter with FIFOs. Spec: National PC16550D data sheet, June 1995;
/// register names are the sheet's.</summary>
/// <remarks>8 byte-wide ports. Deviations: the transmitter sends at once, as fast as the backend takes it; the modem
/// lines are fixed at carrier detect, data set ready and clear to send; OUT2 does not gate the interrupt; a break is
/// not bound to its place in the FIFO.</remarks>
public sealed class Uart16550A : IDevice, IRegisterBank, ICharFrontend
{
    const int Data = 0, InterruptEnable = 1, InterruptIdentification = 2, LineControl = 3, ModemControl = 4,
        LineStatus = 5,
        ModemStatus = 6, Scratch = 7;

    const byte IerReceived = 0x01, IerTransmitterEmpty = 0x02, IerLineStatus = 0x04, IerModemStatus = 0x08;
    const byte IirModemStatus = 0x00, IirNone = 0x01, IirTransmitterEmpty = 0x02, IirReceived = 0x04,
        IirLineStatus = 0x06, IirTimeout = 0x0C,
        IirFifos = 0xC0;
    const byte FcrEnable = 0x01, FcrClearReceiver = 0x02, FcrClearTransmitter = 0x04, FcrWritable = 0xC9;
    const byte LcrDlab = 0x80, LcrParity = 0x08, LcrStop = 0x04;
    const byte McrLoop = 0x10, McrWritable = 0x1F;
    const byte LsrDataReady = 0x01, LsrOverrun = 0x02, LsrBreak = 0x10, LsrErrors = 0x1E, LsrThrEmpty = 0x20,
        LsrTransmitterEmpty = 0x40;
    const byte MsrTrailingRing = 0x04, MsrDeltas = 0x0F, MsrRing = 0x40, MsrConnected = 0xB0; // DCD, DSR, CTS
    const int FifoSize = 16, TimeoutCharacters = 4, BaudBase = 115_200;
    static ReadOnlySpan<byte> TriggerLevels => [1, 4, 8, 14];

    readonly IVirtualClock _clock;
    readonly IrqLine _irq;
    readonly ICharBackend? _backend;
    readonly IVmTimer _timeoutTimer, _resume;
    readonly ByteQueue _receiver = new(FifoSize), _transmitter = new(FifoSize);

    byte _ier, _fcr, _lcr, _mcr, _msr, _scr, _rbr;
    byte _errors;                                                  // LSR bits 1 to 4
    ushort _divisor;
    bool _thrEmptyPending, _timeout;
    long _timeoutDue;

    public Uart16550A(string name, IVirtualClock clock, IrqLine irq, ICharBackend? backend)
    {
        (Name, _clock, _irq, _backend) = (name, clock, irq, backend);
        _timeoutTimer = clock.CreateTimer(OnTimeout);
        _resume = clock.CreateTimer(Transmit);
        Reset();
        backend?.Connect(this);
    }

    public string Name { get; }
    public ICharBackend? Backend => _backend;

    bool HasFifos => (_fcr & FcrEnable) != 0;
    bool IsLoop => (_mcr & McrLoop) != 0;
    bool IsDivisorVisible => (_lcr & LcrDlab) != 0;
    int Depth => HasFifos ? FifoSize : 1;

    public int Room => Math.Max(0, Depth - _receiver.Count);

    public void Reset()
    {
        _ier = _fcr = _lcr = _mcr = _scr = _rbr = _errors = 0;
        _msr = MsrConnected;
        _divisor = 12;                                             // 9600 baud
        _thrEmptyPending = _timeout = false;
        _receiver.Clear();
        _transmitter.Clear();
        ArmTimeout(TickClock.Never);
        _resume.Cancel();
        UpdateIrq();
        _backend?.AcceptInput();
    }

    public ulong Read(ulong offset, int size)
    {
        switch ((int)offset)
        {
            case Data: return IsDivisorVisible ? (byte)_divisor : ReadReceiver();
            case InterruptEnable: return IsDivisorVisible ? (byte)(_divisor >> 8) : _ier;
            case InterruptIdentification:
                byte identification = Identification();
                if (identification == IirTransmitterEmpty) _thrEmptyPending = false;
                UpdateIrq();
                return (byte)(identification | (HasFifos ? IirFifos : 0));
            case LineControl: return _lcr;
            case ModemControl: return _mcr;
            case LineStatus:
                byte status = Status();
                _errors = 0;
                UpdateIrq();
                return status;
            case ModemStatus:
                byte modem = _msr;
                _msr &= unchecked((byte)~MsrDeltas);
                UpdateIrq();
                return modem;
            default: return _scr;
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        byte data = (byte)value;
        switch ((int)offset)
        {
            case Data when IsDivisorVisible: _divisor = (ushort)(_divisor & 0xFF00 | data); break;
            case Data: WriteTransmitter(data); break;
            case InterruptEnable when IsDivisorVisible: _divisor = (ushort)(_divisor & 0xFF | data << 8); break;
            case InterruptEnable:
                bool enables = (data & ~_ier & IerTransmitterEmpty) != 0;
                _ier = (byte)(data & 0x0F);
                if (enables) _thrEmptyPending = _transmitter.Count == 0;
                break;
            case InterruptIdentification: WriteFifoControl(data); break;
            case LineControl: _lcr = data; break;
            case ModemControl:
                _mcr = (byte)(data & McrWritable);
                UpdateModemLines();
                break;
            case Scratch: _scr = data; break;
        }
        UpdateIrq();
    }

    public void Receive(ReadOnlySpan<byte> data)
    {
        if (IsLoop) return;                                        // the receiver's pin is cut off
        foreach (byte value in data) Push(value);
        UpdateIrq();
    }

    public void Event(CharEvent what)
    {
        if (what != CharEvent.Break || IsLoop) return;
        Push(0);
        _errors |= LsrBreak;
        UpdateIrq();
    }

    public void Writable()
    {
        Transmit();
        UpdateIrq();
    }

    public void Exchange(StateStream state)
    {
        state.Field("ier", ref _ier);
        state.Field("fcr", ref _fcr);
        state.Field("lcr", ref _lcr);
        state.Field("mcr", ref _mcr);
        state.Field("msr", ref _msr);
        state.Field("scr", ref _scr);
        state.Field("rbr", ref _rbr);
        state.Field("errors", ref _errors);
        state.Field("divisor", ref _divisor);
        state.Field("thr-empty-pending", ref _thrEmptyPending);
        state.Field("timeout", ref _timeout);
        state.Field("timeout-due", ref _timeoutDue);
        _receiver.Exchange(state, "receiver");
        _transmitter.Exchange(state, "transmitter");
        if (!state.IsLoading) return;
        _ier &= 0x0F;
        _mcr &= McrWritable;
        _fcr &= FcrWritable;
        _errors &= LsrErrors;
        _irq.Restore(Identification() != IirNone);
        ArmTimeout(_timeoutDue);
        if (_transmitter.Count > 0) _resume.ArmAt(_clock.Nanoseconds);
    }

    byte ReadReceiver()
    {
        if (_receiver.Count == 0) return _rbr;
        bool wasFull = Room == 0;
        _rbr = _receiver.Pop();
        _timeout = false;
        ArmTimeout(HasFifos && _receiver.Count > 0 ? _clock.Nanoseconds + TimeoutNanoseconds : TickClock.Never);
        UpdateIrq();
        if (wasFull || _receiver.Count == 0) _backend?.AcceptInput();
        return _rbr;
    }

    void Push(byte value)
    {
        if (_receiver.Count >= Depth)
        {
            _errors |= LsrOverrun;
            if (HasFifos) return;                                  // without FIFOs the new character replaces the old
            _receiver.Clear();
        }
        _receiver.TryPush(value);
        if (HasFifos) ArmTimeout(_clock.Nanoseconds + TimeoutNanoseconds);
    }

    void WriteTransmitter(byte data)
    {
        _thrEmptyPending = false;
        if (IsLoop)
        {
            Push(data);
            UpdateIrq();
            _thrEmptyPending = true;
            return;
        }
        _transmitter.TryPush(data);
        UpdateIrq();                                               // the request falls before it rises again
        Transmit();
    }

    void Transmit()
    {
        while (_transmitter.Count > 0)
        {
            int taken = _backend?.Write(_transmitter.Front) ?? _transmitter.Count;
            if (taken <= 0) return;                                // Writable follows
            _transmitter.Drop(Math.Min(taken, _transmitter.Count));
            if (_transmitter.Count == 0) _thrEmptyPending = true;
        }
        UpdateIrq();
    }

    void WriteFifoControl(byte data)
    {
        bool toggles = ((data ^ _fcr) & FcrEnable) != 0;
        _fcr = (data & FcrEnable) != 0 ? (byte)(data & FcrWritable) : (byte)0;
        if ((data & FcrClearTransmitter) != 0 || toggles)
        {
            if (_transmitter.Count > 0) _thrEmptyPending = true;
            _transmitter.Clear();
        }
        if (toggles || (data & FcrClearReceiver) != 0)
        {
            _receiver.Clear();
            _timeout = false;
            ArmTimeout(TickClock.Never);
            _backend?.AcceptInput();
        }
    }

    byte Status() => (byte)(_errors | (_receiver.Count > 0 ? LsrDataReady : 0)
        | (_transmitter.Count == 0 ? LsrThrEmpty | LsrTransmitterEmpty : 0));

    /// <summary>Table 4, "Interrupt Control Functions", in order of priority.</summary>
    byte Identification()
    {
        if ((_ier & IerLineStatus) != 0 && _errors != 0) return IirLineStatus;
        if ((_ier & IerReceived) != 0)
        {
            int trigger = HasFifos ? TriggerLevels[_fcr >> 6] : 1;
            if (_receiver.Count >= trigger) return IirReceived;
            if (_timeout) return IirTimeout;
        }
        if ((_ier & IerTransmitterEmpty) != 0 && _thrEmptyPending) return IirTransmitterEmpty;
        return (_ier & IerModemStatus) != 0 && (_msr & MsrDeltas) != 0 ? IirModemStatus : IirNone;
    }

    void UpdateIrq() => _irq.Set(Identification() != IirNone);

    /// <summary>Loop mode: RTS, DTR, OUT1 and OUT2 appear as CTS, DSR, RI and DCD ("Modem Control Register", bit
    /// 4).</summary>
    void UpdateModemLines()
    {
        byte lines = IsLoop ? (byte)((_mcr & 0x02) << 3 | (_mcr & 0x01) << 5 | (_mcr & 0x0C) << 4) : MsrConnected;
        int changed = (_msr ^ lines) & 0xF0, deltas = changed >> 4 & ~MsrTrailingRing;
        if ((changed & MsrRing) != 0 && (lines & MsrRing) == 0) deltas |= MsrTrailingRing;
        _msr = (byte)(lines | _msr & MsrDeltas | deltas);
    }

    void OnTimeout()
    {
        _timeoutDue = TickClock.Never;
        _timeout = _receiver.Count > 0;
        UpdateIrq();
    }

    void ArmTimeout(long due)
    {
        _timeoutDue = due;
        if (due == TickClock.Never) _timeoutTimer.Cancel();
        else _timeoutTimer.ArmAt(due);
    }

    /// <summary>"FIFO Interrupt Mode Operation": four character times without traffic.</summary>
    long TimeoutNanoseconds
    {
        get
        {
            int bits = 1 + 5 + (_lcr & 3) + ((_lcr & LcrParity) != 0 ? 1 : 0) + ((_lcr & LcrStop) != 0 ? 2 : 1);
            return TimeoutCharacters * bits * (long)Math.Max((ushort)1, _divisor) * 1_000_000_000 / BaudBase;
        }
    }
}
