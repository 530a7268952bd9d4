using Qkvm.Core.Machine;

namespace Qkvm.Hw.Intc;

/// <remarks>Registers, table 11-1 (xAPIC: offset 16 × index) and table 11-6 (x2APIC: MSR 800h + index).</remarks>
public sealed partial class LocalApic
{
    // Register indices
    const int IdRegister = 0x02, VersionRegister = 0x03, Tpr = 0x08, Apr = 0x09, Ppr = 0x0A, Eoi = 0x0B, Rrd = 0x0C,
        Ldr = 0x0D, Dfr = 0x0E,
        Svr = 0x0F, IsrFirst = 0x10, TmrFirst = 0x18, IrrFirst = 0x20, Esr = 0x28, IcrLow = 0x30, IcrHigh = 0x31,
        LvtFirst = 0x32, InitialCount = 0x38, CurrentCount = 0x39, DivideConfiguration = 0x3E, SelfIpi = 0x3F;
    const uint VersionValue = (LvtCount - 1) << 16 | 0x14;

    // IA32_APIC_BASE, section 11.4.4
    const ulong DefaultBase = 0xFEE00000, BaseBootProcessor = 1 << 8, BaseX2Apic = 1 << 10, BaseEnable = 1 << 11;
    const int FirstMsr = 0x800, LastMsr = 0x8FF;

    // Local vector table, section 11.5.1
    const int LvtTimer = 0, LvtThermal = 1, LvtPerformance = 2, LvtLint0 = 3, LvtLint1 = 4, LvtError = 5, LvtCount = 6;
    const uint LvtDeliveryMode = 0x700, LvtRemoteIrr = 1 << 14, LvtLevel = 1 << 15, LvtMasked = 1 << 16,
        LvtReadOnly = 0x5000;
    static ReadOnlySpan<uint> LvtBits => [0x700FF, 0x107FF, 0x107FF, 0x1A7FF, 0x1A7FF, 0x100FF];
    const uint LvtTscDeadline = 1 << 18;

    /// <summary>The timer's mode bit 18 is reserved where CPUID shows no TSC-deadline mode, section 11.5.4.</summary>
    uint LvtWritable(int index) => index == LvtTimer && !_cpu.HasTscDeadline ? LvtBits[index] & ~LvtTscDeadline
        : LvtBits[index];

    const uint SvrEnable = 0x100, SvrWritable = 0x3FF, DfrFlat = 0xF;
    internal const byte FirstLegalVector = 16;
    const uint SendIllegalVector = 1 << 5, ReceiveIllegalVector = 1 << 6, IllegalRegister = 1 << 7; // ESR

    // ICR, section 11.6.1
    const uint IcrLogical = 1 << 11, IcrAssert = 1 << 14, IcrLevel = 1 << 15, IcrWritable = 0x000CCFFF;
    const int ShorthandNone = 0, ShorthandSelf = 1, ShorthandAll = 2;

    public ulong BaseMsr
    {
        get { using (_lock.Hold()) return _base; }
    }

    public bool WriteBaseMsr(ulong value)
    {
        using MachineLock.Scope held = _lock.Hold();
        value = value & ~BaseBootProcessor | _base & BaseBootProcessor;
        if (!IsLegalBase(value)) return false;
        // Table 11-5: x2APIC is entered from xAPIC and left by disabling.
        bool toX2Apic = (value & BaseX2Apic) != 0, toEnabled = (value & BaseEnable) != 0;
        if (toX2Apic && !IsX2Apic && !IsEnabled) return false;
        if (IsX2Apic && !toX2Apic && toEnabled) return false;
        bool entersX2Apic = toX2Apic && !IsX2Apic, leaves = IsEnabled && !toEnabled;
        _base = value;
        if (leaves) ResetRegisters();
        if (entersX2Apic)
        {
            _ldr = X2ApicLogicalId;
            _icr &= uint.MaxValue;
        }
        Update();
        return true;
    }

    public uint Peek(int register)
    {
        using MachineLock.Scope held = _lock.Hold();
        return register == IdRegister ? _id : TryRead(register, out uint value) ? value : 0;
    }

    public uint ReadMmio(uint offset)
    {
        using MachineLock.Scope held = _lock.Hold();
        TakePosted();
        if (!IsEnabled || IsX2Apic) return uint.MaxValue;
        if (TryRead((int)offset >> 4, out uint value)) return value;
        Error(IllegalRegister);
        return 0;
    }

    public void WriteMmio(uint offset, uint value)
    {
        using MachineLock.Scope held = _lock.Hold();
        if (!IsEnabled || IsX2Apic) return;
        if (!TryWrite((int)offset >> 4, value)) Error(IllegalRegister);
    }

    public bool ReadMsr(uint msr, out ulong value)
    {
        using MachineLock.Scope held = _lock.Hold();
        TakePosted();
        value = 0;
        if (!IsX2Apic || msr is < FirstMsr or > LastMsr) return false;
        int index = (int)msr - FirstMsr;
        if (index is Apr or Rrd or Dfr or IcrHigh) return false;
        if (!TryRead(index, out uint low)) return false;
        value = index == IcrLow ? _icr : low;
        return true;
    }

    public bool WriteMsr(uint msr, ulong value)
    {
        using MachineLock.Scope held = _lock.Hold();
        if (!IsX2Apic || msr is < FirstMsr or > LastMsr) return false;
        int index = (int)msr - FirstMsr;
        if (index == IcrLow)
        {
            if (((uint)value & ~IcrWritable) != 0) return false;
            _icr = value;
            Send((uint)value, (uint)(value >> 32));
            return true;
        }
        if (index is IdRegister or Ldr or Dfr or IcrHigh || (value & ~X2ApicWritable(index)) != 0) return false;
        return TryWrite(index, (uint)value);
    }

    public byte Cr8
    {
        get { using (_lock.Hold()) return (byte)(_tpr >> 4); }
        set
        {
            using MachineLock.Scope held = _lock.Hold();
            _tpr = (byte)(value << 4);
            Update();
        }
    }

    public ulong TscDeadline
    {
        get { using (_lock.Hold()) return _timer.Deadline; }
        set { using (_lock.Hold()) _timer.Deadline = value; }
    }

    /// <summary>Reserved bits fault in x2APIC mode, section 11.12.1.3.</summary>
    ulong X2ApicWritable(int index) => index switch
    {
        Tpr or SelfIpi => 0xFF,
        Eoi or Esr => 0,
        Svr => SvrWritable,
        >= LvtFirst and < LvtFirst + LvtCount => LvtWritable(index - LvtFirst) | LvtReadOnly,
        DivideConfiguration => 0x0B,
        _ => uint.MaxValue,
    };

    bool IsLegalBase(ulong value) => (value & ~(_addressMask | BaseBootProcessor | BaseX2Apic | BaseEnable)) == 0
        && ((value & BaseX2Apic) == 0 || (value & BaseEnable) != 0);

    bool TryRead(int index, out uint value)
    {
        value = 0;
        switch (index)
        {
            case IdRegister: value = IsX2Apic ? _id : _id << 24; break;
            case VersionRegister: value = VersionValue; break;
            case Tpr: value = _tpr; break;
            case Apr or Ppr: value = ProcessorPriority; break;
            case Rrd: break;
            case Ldr: value = _ldr; break;
            case Dfr: value = _dfr; break;
            case Svr: value = _svr; break;
            case >= IsrFirst and < IsrFirst + 8: value = _isr.Word(index - IsrFirst); break;
            case >= TmrFirst and < TmrFirst + 8: value = _tmr.Word(index - TmrFirst); break;
            case >= IrrFirst and < IrrFirst + 8: value = _irr.Word(index - IrrFirst); break;
            case Esr: value = _esr; break;
            case IcrLow: value = (uint)_icr; break;
            case IcrHigh: value = (uint)(_icr >> 32); break;
            case >= LvtFirst and < LvtFirst + LvtCount: value = _lvt[index - LvtFirst]; break;
            case InitialCount: value = _timer.InitialCount; break;
            case CurrentCount: value = _timer.CurrentCount; break;
            case DivideConfiguration: value = _timer.Divide; break;
            case Eoi when !IsX2Apic: break;                        // write-only, reads as zero in the page
            default: return false;
        }
        return true;
    }

    bool TryWrite(int index, uint value)
    {
        switch (index)
        {
            case Tpr: _tpr = (byte)value; break;
            case Eoi: EndOfInterrupt(); return true;
            case Ldr: _ldr = value & 0xFF000000; break;
            case Dfr: _dfr = value | 0x0FFFFFFF; break;
            case Svr: WriteSpurious(value); break;
            case Esr:
                (_esr, _errors) = (_errors, 0);
                break;
            case IcrLow:
                _icr = _icr & ~(ulong)uint.MaxValue | value & IcrWritable;
                Send(value, (uint)(_icr >> 56));
                return true;
            case IcrHigh: _icr = (uint)_icr | (ulong)(value & 0xFF000000) << 32; break;
            case >= LvtFirst and < LvtFirst + LvtCount: WriteLvt(index - LvtFirst, value); break;
            case InitialCount: _timer.Start(value); break;
            case DivideConfiguration: _timer.Divide = (byte)value; break;
            case SelfIpi when IsX2Apic: SendSelf((byte)value); return true;
            case IdRegister or Apr or Ppr or Rrd or VersionRegister or CurrentCount when !IsX2Apic: break; // read-only
            default: return false;
        }
        Update();
        return true;
    }

    /// <summary>While software disabled all entries are masked, section 11.4.7.2.</summary>
    void WriteSpurious(uint value)
    {
        _svr = value & SvrWritable;
        if ((_svr & SvrEnable) != 0) return;
        for (int i = 0; i < LvtCount; i++) _lvt[i] |= LvtMasked;
    }

    void Send(uint command, uint destination)
    {
        var mode = (DeliveryMode)(command >> 8 & 7);
        byte vector = (byte)command;
        bool level = (command & IcrLevel) != 0;
        // INIT level de-assert: for old buses only
        if (mode == DeliveryMode.Init && level && (command & IcrAssert) == 0) return;
        if (mode is DeliveryMode.Fixed or DeliveryMode.LowestPriority && vector < FirstLegalVector)
        {
            Error(SendIllegalVector);
            return;
        }
        switch ((int)(command >> 18 & 3))
        {
            case ShorthandNone:
                _bus.Deliver(new InterruptMessage(vector, mode, destination, (command & IcrLogical) != 0, level,
                    IsX2Apic));
                break;
            case ShorthandSelf: Accept(mode, vector, level); break;
            case ShorthandAll: _bus.DeliverToAll(null, mode, vector, level); break;
            default: _bus.DeliverToAll(this, mode, vector, level); break;
        }
    }

    void SendSelf(byte vector)
    {
        if (vector < FirstLegalVector) Error(SendIllegalVector);
        else Accept(DeliveryMode.Fixed, vector, isLevel: false);
    }
}
