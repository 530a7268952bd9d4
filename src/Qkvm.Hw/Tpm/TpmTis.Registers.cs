using Qkvm.Core.Tpm;

namespace Qkvm.Hw.Tpm;

/// <summary>The registers, which each locality has: TIS 1.3, table 11; PTP 1.05, table 19. They are accessed by bytes,
/// whatever the guest's accesses are.</summary>
public sealed partial class TpmTis
{
    const int AccessRegister = 0x00, IntEnableRegister = 0x08, IntVectorRegister = 0x0C, IntStatusRegister = 0x10,
        IntfCapabilityRegister = 0x14, StsRegister = 0x18, DataFifo = 0x24, InterfaceIdRegister = 0x30,
        XDataFifo = 0x80, DidVidRegister = 0xF00, RidRegister = 0xF04;
    const int FifoWidth = 4;

    // ACCESS
    const uint Established = 1 << 0, RequestUse = 1 << 1, PendingRequest = 1 << 2, Seize = 1 << 3, BeenSeized = 1 << 4,
        ActiveLocality = 1 << 5, AccessValid = 1 << 7;

    // STS
    const uint ResponseRetry = 1 << 1, SelfTestDone = 1 << 2, Expect = 1 << 3, DataAvail = 1 << 4, TpmGo = 1 << 5,
        CommandReady = 1 << 6, StsValid = 1 << 7, Family20 = 1 << 26;
    const int BurstCountShift = 8;
    const byte CommandCancel = 1 << 0, ResetEstablishment = 1 << 1; // of its highest byte

    // INT_ENABLE, INT_STATUS and INTF_CAPABILITY
    const uint DataAvailInt = 1 << 0, StsValidInt = 1 << 1, LocalityChangeInt = 1 << 2, LowLevel = 1 << 3,
        PolarityMask = 3 << 3, CommandReadyInt = 1 << 7, GlobalIntEnable = 1U << 31;
    const uint Interrupts = DataAvailInt | StsValidInt | LocalityChangeInt | CommandReadyInt;
    const uint ResetIntEnable = LowLevel;
    const uint LowLevelCapability = 1 << 4, Transfers64 = 3 << 9, Version13 = 2U << 28, VersionPtp = 3U << 28;

    // INTERFACE_ID: TIS 1.3, or FIFO of five localities
    const uint InterfaceTis = uint.MaxValue, InterfaceFifo = 1 << 8 | 1 << 13;

    const uint DidVid = 0x0001_1014, Rid = 0, Nothing = uint.MaxValue;
    const byte NoData = 0xFF;

    public ulong Read(ulong offset, int size)
    {
        int locality = (int)offset / LocalitySize, register = (int)offset % LocalitySize;
        if (IsFifo(register)) return ReadFifo(locality);
        return (byte)(Register(locality, register & ~3) >> (register & 3) * 8);
    }

    public void Write(ulong offset, int size, ulong value)
    {
        int locality = (int)offset / LocalitySize, register = (int)offset % LocalitySize, lane = (register & 3) * 8;
        byte data = (byte)value;
        if (IsFifo(register))
        {
            if (locality == _active) WriteFifo(data);
            return;
        }
        switch (register & ~3)
        {
            case AccessRegister when lane == 0: WriteAccess((byte)locality, data); break;
            case IntEnableRegister when locality == _active: WriteIntEnable(lane, data); break;
            case IntStatusRegister when locality == _active && lane == 0: WriteIntStatus(data); break;
            case StsRegister when locality == _active && lane == 0: WriteSts(data); break;
            case StsRegister when locality == _active && lane == 24: WriteStsCommands(data); break;
        }
    }

    uint Register(int locality, int register) => register switch
    {
        AccessRegister => Access(locality),
        IntEnableRegister => _localities[locality].IntEnable,
        IntVectorRegister => _vector,
        IntStatusRegister => _localities[locality].IntStatus,
        IntfCapabilityRegister => Interrupts | LowLevelCapability | Transfers64 | (Is20 ? VersionPtp : Version13),
        StsRegister => locality == _active ? Sts : Nothing,
        InterfaceIdRegister => Is20 ? InterfaceFifo : InterfaceTis,
        DidVidRegister => DidVid,
        RidRegister => Rid,
        _ => Nothing,
    };

    static bool IsFifo(int register) => register is >= DataFifo and < DataFifo + FifoWidth
        or >= XDataFifo and < XDataFifo + FifoWidth;

    bool Is20 => _tpm.Version == TpmVersion.V20;

    uint Access(int locality)
    {
        uint value = AccessValid;
        if (!_tpm.IsEstablished) value |= Established;             // low once established
        if (_localities[locality].RequestsUse) value |= RequestUse;
        if (_localities[locality].WasSeized) value |= BeenSeized;
        if (locality == _active) value |= ActiveLocality;
        for (int i = 0; i < Localities; i++)
            if (i != locality && _localities[i].RequestsUse) value |= PendingRequest;
        return value;
    }

    /// <summary>TIS, section 5.6.10 "Access register": one bit at a time.</summary>
    void WriteAccess(byte locality, byte value)
    {
        ref Locality own = ref _localities[locality];
        switch ((uint)value)
        {
            case ActiveLocality when locality == _active: Activate(NextRequester()); break;
            case ActiveLocality: own.RequestsUse = false; break;
            case BeenSeized: own.WasSeized = false; break;
            case RequestUse when _active == NoLocality: Activate(locality); break;
            case RequestUse when locality != _active: own.RequestsUse = true; break;
            case Seize when _active != NoLocality && locality > _active:
                _localities[_active].WasSeized = true;
                Activate(locality);
                break;
        }
    }

    /// <summary>The highest one goes first.</summary>
    byte NextRequester()
    {
        for (byte i = Localities; i-- > 0;)
            if (_localities[i].RequestsUse) return i;
        return NoLocality;
    }

    uint Sts
    {
        get
        {
            uint value = Is20 ? Family20 | SelfTestDone : 0;
            uint burst = (uint)(_state switch
            {
                State.Ready or State.Reception => BufferSize - _count,
                State.Completion => _count - _at,
                _ => 0,
            });
            if (_state != State.Execution) value |= StsValid;
            if (_state == State.Ready) value |= CommandReady;
            if (_state == State.Reception && Expects) value |= Expect;
            if (_state == State.Completion && _at < _count) value |= DataAvail;
            return value | burst << BurstCountShift;
        }
    }

    /// <summary>More bytes of the command are to come.</summary>
    bool Expects => _count < TpmCommand.CodeOffset || (uint)_count < TpmCommand.Length(_buffer);

    void WriteSts(byte value)
    {
        switch ((uint)value)
        {
            case CommandReady when _state == State.Execution:
                _isAbandoned = true;
                _tpm.Cancel();
                break;
            case CommandReady when _state != State.Ready: BecomeReady(); break;
            case TpmGo when _state == State.Reception && !Expects: Execute(); break;
            case ResponseRetry when _state == State.Completion: _at = 0; break;
        }
    }

    /// <summary>PTP, section 6.5.1.8: bits 24 and 25.</summary>
    void WriteStsCommands(byte value)
    {
        const int firstOfTrust = 3;                                // localities that may
        if (!Is20) return;
        if (value == CommandCancel && _state == State.Execution) _tpm.Cancel();
        if (value == ResetEstablishment && _active >= firstOfTrust) _tpm.ResetEstablished(_active);
    }

    void WriteIntEnable(int lane, byte value)
    {
        ref uint enable = ref _localities[_active].IntEnable;
        uint merged = enable & ~(0xFFu << lane) | (uint)value << lane;
        enable = merged & (GlobalIntEnable | PolarityMask | Interrupts);
    }

    void WriteIntStatus(byte value)
    {
        ref uint status = ref _localities[_active].IntStatus;
        status &= ~(uint)value;
        if (status == 0) _irq.Set(false);
    }

    void WriteFifo(byte value)
    {
        if (_state == State.Ready) (_state, _count) = (State.Reception, 0);
        if (_state != State.Reception || !Expects || _count == BufferSize) return;
        _buffer[_count++] = value;
        if (!Expects) Raise(StsValidInt);
    }

    byte ReadFifo(int locality)
    {
        if (locality != _active || _state != State.Completion || _at == _count) return NoData;
        byte value = _buffer[_at++];
        if (_at == _count) Raise(StsValidInt);
        return value;
    }
}
