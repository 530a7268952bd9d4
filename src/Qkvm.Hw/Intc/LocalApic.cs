using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Intc;

/// <summary>One processor's local APIC: xAPIC page and x2APIC registers. Spec: Intel SDM volume 3, chapter 11 (order
/// 325384); names are the manual's.</summary>
/// <remarks>This part keeps the pending and serviced interrupts and the local wires; LocalApic.Registers.cs is the
/// software interface. Public members of <see cref="ILocalApic"/> take the machine lock; all others are called under
/// it. Deviations: after power-on the boot processor's LINT0 accepts the 8259 (as firmware sets it up on a real PC);
/// the APIC ID cannot be changed; the boot processor flag cannot be written; no thermal or performance interrupt
/// occurs.</remarks>
public sealed partial class LocalApic : IDevice, ILocalApic
{
    readonly IVCpu _cpu;
    readonly ApicBus _bus;
    readonly MachineLock _lock;
    readonly LocalApicTimer _timer;
    readonly uint _id;
    readonly bool _isBootProcessor;
    readonly ulong _addressMask;

    readonly VectorSet _irr = new(), _isr = new(), _tmr = new();
    ulong _base;
    ulong _icr;
    uint _ldr, _dfr, _svr, _esr, _errors;
    byte _tpr;
    volatile bool _hasInterrupt;                                   // derived
    int _served = -1;                                              // not migrated: between two instructions
    // not migrated: costs the guest an EOI, or one is made up for it
    bool _eoiElided;

    public LocalApic(IVCpu cpu, int apicId, bool isBootProcessor, ApicBus bus, IVirtualClock clock,
        MachineLock machineLock,
        int physicalAddressBits = 40)
    {
        (_cpu, _id, _isBootProcessor, _bus, _lock) = (cpu, (uint)apicId, isBootProcessor, bus, machineLock);
        _addressMask = (1UL << physicalAddressBits) - 1 & ~0xFFFUL;
        _timer = new LocalApicTimer(clock, cpu, () => Raise(LvtTimer));
        Name = $"apic{cpu.Index}";
        bus.Attach(this);
        Reset();
    }

    /// <summary>Vectors that end when they are taken: Hyper-V's AutoEOI. Kept by who sets it.</summary>
    internal VectorSet EndsByItself { get; } = new();

    public string Name { get; }
    public uint Id => _id;

    /// <summary>Of its processor.</summary>
    public int Index => _cpu.Index;

    /// <summary>Its processor leaves: nothing reaches it any more.</summary>
    public void Disconnect()
    {
        _bus.Detach(this);
        Reset();
    }

    /// <summary>Its processor is back.</summary>
    public void Reconnect() => _bus.Attach(this);
    public bool IsEnabled => (_base & BaseEnable) != 0;
    public bool IsX2Apic => (_base & BaseX2Apic) != 0;
    public bool IsSoftwareEnabled => IsEnabled && (_svr & SvrEnable) != 0;

    /// <summary>PPR, section 11.8.3.1.</summary>
    public byte ProcessorPriority
    {
        get
        {
            int serving = Math.Max(0, _isr.Highest) & 0xF0;
            return (_tpr & 0xF0) >= serving ? _tpr : (byte)serving;
        }
    }

    public bool HasInterrupt => _hasInterrupt || _hasPosted != 0;

    public void Reset()
    {
        _base = DefaultBase | BaseEnable | (_isBootProcessor ? BaseBootProcessor : 0);
        _lint0 = _lint1 = false;
        ResetRegisters();
        if (_isBootProcessor) _lvt[LvtLint0] = (uint)DeliveryMode.ExtInt << 8;
        Update();
    }

    public int Acknowledge()
    {
        using MachineLock.Scope held = _lock.Hold();
        TakePosted();
        int vector = Deliverable();
        if (vector >= 0)
        {
            _irr[vector] = false;
            _served = EndsByItself[vector] ? -1 : vector;
            if (_served >= 0) _isr[vector] = true;
        }
        else if (IsExtIntPending)
        {
            _extInt = false;
            vector = _bus.AcknowledgePic();
        }
        Update();
        _bus.Take();
        return vector;
    }

    public bool TryElideEoi()
    {
        using MachineLock.Scope held = _lock.Hold();
        TakePosted();
        int vector = _isr.Highest;
        if (vector < 0 || vector != _served || _tmr[vector] || _isr.Count != 1 || HasWaitingLocked) return false;
        return _eoiElided = true;
    }

    public bool HasWaiting
    {
        get
        {
            using MachineLock.Scope held = _lock.Hold();
            TakePosted();
            return HasWaitingLocked;
        }
    }

    bool HasWaitingLocked => _irr.Highest >= 0 || IsExtIntPending;

    public void SettleEoi(bool isEnded)
    {
        using MachineLock.Scope held = _lock.Hold();
        if (_eoiElided && isEnded) EndOfInterrupt();
        _eoiElided = false;
    }

    public void Exchange(StateStream state)
    {
        TakePosted();
        state.Field("base", ref _base);
        state.Field("tpr", ref _tpr);
        state.Field("ldr", ref _ldr);
        state.Field("dfr", ref _dfr);
        state.Field("svr", ref _svr);
        state.Field("esr", ref _esr);
        state.Field("errors", ref _errors);
        state.Field("icr", ref _icr);
        state.Field("lint0", ref _lint0);
        state.Field("lint1", ref _lint1);
        state.Field("ext-int", ref _extInt);
        for (int i = 0; i < LvtCount; i++) state.Group("lvt", i).Field("value", ref _lvt[i]);
        _irr.Exchange(state.Group("irr"));
        _isr.Exchange(state.Group("isr"));
        _tmr.Exchange(state.Group("tmr"));
        _timer.Exchange(state.Group("timer"));
        if (!state.IsLoading) return;
        if (!IsLegalBase(_base)) throw new InvalidStateException($"{Name}: impossible base");
        for (int i = 0; i < LvtCount; i++) _lvt[i] &= LvtWritable(i) | LvtRemoteIrr;
        _hasInterrupt = Pending();                                 // the processor looks before it sleeps
    }

    /// <summary>What INIT makes of it; mode, base and wires stay (section 11.4.7.3).</summary>
    void ResetRegisters()
    {
        _tpr = 0;
        _esr = _errors = 0;
        _icr = 0;
        _ldr = IsX2Apic ? X2ApicLogicalId : 0;
        _dfr = uint.MaxValue;
        _svr = 0xFF;
        _extInt = _eoiElided = false;
        Array.Fill(_lvt, LvtMasked);
        TakePosted();
        _irr.Clear();
        _isr.Clear();
        _tmr.Clear();
        _timer.Reset();
    }

    uint X2ApicLogicalId => _id >> 4 << 16 | 1u << (int)(_id & 0xF);

    /// <summary>The vector is in IRR.</summary>
    public bool IsWaiting(byte vector) => IsSoftwareEnabled
        && (_irr[vector] || (_posted[vector >> 5] & 1u << (vector & 31)) != 0);

    /// <summary>The vector that the processor may take now, or -1.</summary>
    int Deliverable()
    {
        if (!IsSoftwareEnabled) return -1;
        int vector = _irr.Highest;
        return vector >= 0 && vector >> 4 > ProcessorPriority >> 4 ? vector : -1;
    }

    bool Pending() => Deliverable() >= 0 || IsExtIntPending;

    void Update()
    {
        TakePosted();
        bool pending = Pending();
        if (_eoiElided && !pending && HasWaitingLocked) _cpu.InterruptPending();
        if (pending == _hasInterrupt) return;
        _hasInterrupt = pending;
        if (pending) _cpu.InterruptPending();
    }

    /// <summary>Section 11.8.5.</summary>
    void EndOfInterrupt()
    {
        int vector = _isr.Highest;
        _eoiElided = false;
        if (vector < 0) return;
        _isr[vector] = false;
        if (_tmr[vector])
        {
            _bus.EndOfInterrupt(vector);
            EndOfLevel(LvtLint0, _lint0, vector);
            EndOfLevel(LvtLint1, _lint1, vector);
        }
        Update();
    }

    /// <summary>Section 11.5.3; bits show in ESR after software wrote it.</summary>
    void Error(uint bit)
    {
        bool isNew = (_errors & bit) == 0;
        _errors |= bit;
        // An error entry with an illegal vector would report itself forever.
        if (isNew && (byte)_lvt[LvtError] >= FirstLegalVector) Raise(LvtError);
    }
}
