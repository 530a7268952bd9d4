using Qkvm.Core.Accel;

namespace Qkvm.Hw.Intc;

/// <remarks>The wires of the processor itself, and the local vector table, which says what each does. Section
/// 11.5.1.</remarks>
public sealed partial class LocalApic
{
    readonly uint[] _lvt = new uint[LvtCount];
    bool _lint0, _lint1;                                           // the wires' levels
    bool _extInt;                                                  // an ExtINT message waits

    /// <summary>LINT0: the 8259's INTR.</summary>
    public void SetLint0(bool level) => SetLint(LvtLint0, ref _lint0, level);

    /// <summary>LINT1: the NMI wire.</summary>
    public void SetLint1(bool level) => SetLint(LvtLint1, ref _lint1, level);

    bool IsExtIntPending => _extInt || _lint0 && TakesExtInt;

    /// <summary>LINT0 is the 8259's way to the processor.</summary>
    public bool TakesExtInt =>
        !IsEnabled || (_lvt[LvtLint0] & (LvtMasked | LvtDeliveryMode)) == (uint)DeliveryMode.ExtInt << 8;

    void SetLint(int index, ref bool wire, bool level)
    {
        bool rises = level && !wire;
        wire = level;
        var mode = (DeliveryMode)(_lvt[index] >> 8 & 7);
        if (!IsEnabled && index == LvtLint1)
        {
            if (rises) _cpu.Signal(CpuSignal.Nmi);                 // section 11.4.3: the pins are INTR and NMI again
        }
        else if (mode == DeliveryMode.ExtInt || !IsEnabled) Update();
        else if (mode == DeliveryMode.Fixed && (_lvt[index] & LvtLevel) != 0) RaiseLevel(index, level);
        else if (rises) Raise(index);
    }

    /// <summary>A level triggered local wire interrupts again after each EOI while it is high.</summary>
    void RaiseLevel(int index, bool level)
    {
        if (!level || (_lvt[index] & (LvtMasked | LvtRemoteIrr)) != 0) return;
        _lvt[index] |= LvtRemoteIrr;
        Accept(DeliveryMode.Fixed, (byte)_lvt[index], isLevel: true);
    }

    /// <summary>A local interrupt, as its vector table entry says. Section 11.5.1.</summary>
    void Raise(int index)
    {
        uint entry = _lvt[index];
        if ((entry & LvtMasked) == 0) Accept((DeliveryMode)(entry >> 8 & 7), (byte)entry, isLevel: false);
    }

    void EndOfLevel(int index, bool wire, int vector)
    {
        if ((_lvt[index] & LvtRemoteIrr) == 0 || (byte)_lvt[index] != vector) return;
        _lvt[index] &= ~LvtRemoteIrr;
        RaiseLevel(index, wire);
    }

    void WriteLvt(int index, uint value)
    {
        uint entry = value & LvtWritable(index) | _lvt[index] & LvtRemoteIrr;
        if ((_svr & SvrEnable) == 0) entry |= LvtMasked;
        if ((entry & LvtLevel) == 0) entry &= ~LvtRemoteIrr;
        _lvt[index] = entry;
        if (index == LvtTimer) _timer.Mode = (LocalApicTimerMode)(entry >> 17 & 3);
        else if ((entry & (LvtLevel | LvtDeliveryMode)) == LvtLevel && index is LvtLint0 or LvtLint1)
            RaiseLevel(index, index == LvtLint0 ? _lint0 : _lint1);
    }
}
