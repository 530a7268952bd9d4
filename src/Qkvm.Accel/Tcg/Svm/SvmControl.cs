using Qkvm.Core.State;

namespace Qkvm.Accel.Tcg;

/// <summary>What VMRUN has taken from the control area of a VMCB: memory may change meanwhile. Spec: AMD64 APM vol. 2,
/// appendix B.1.</summary>
sealed class SvmControl
{
    const int Words = 6, BitsPerWord = 32;

    // Of the virtual interrupt's quadword, offset 60h.
    const ulong TprMask = 0xFF, Requested = 1UL << 8, IgnoresTpr = 1UL << 20, Masking = 1UL << 24;
    const int PriorityShift = 16, VectorShift = 32;

    readonly uint[] _intercepts = new uint[Words];
    ulong _interrupt;

    public ulong IoMap, MsrMap, TscOffset, NestedCr3, EventInjection, NextRip;
    public uint Asid;
    public byte TlbControl;
    public ushort PauseCount, PauseThreshold;
    public bool NestedPaging, Shadow;

    public void Load(in Vmcb vmcb)
    {
        for (int i = 0; i < Words; i++) _intercepts[i] = vmcb.Dword(Vmcb.Intercepts + i * sizeof(uint));
        (IoMap, MsrMap, TscOffset) = (vmcb[Vmcb.IoMap], vmcb[Vmcb.MsrMap], vmcb[Vmcb.TscOffset]);
        (Asid, TlbControl) = (vmcb.Dword(Vmcb.Asid), vmcb.Bytes[Vmcb.TlbControl]);
        (PauseCount, PauseThreshold) = (vmcb.Word(Vmcb.PauseCount), vmcb.Word(Vmcb.PauseThreshold));
        (_interrupt, Shadow) = (vmcb[Vmcb.VirtualInterrupt], (vmcb[Vmcb.InterruptShadow] & Vmcb.IsShadowed) != 0);
        (NestedPaging, NestedCr3) = ((vmcb[Vmcb.NestedControl] & Vmcb.NestedPaging) != 0, vmcb[Vmcb.NestedCr3]);
        (EventInjection, NextRip) = (vmcb[Vmcb.EventInjection], vmcb[Vmcb.NextRip]);
    }

    /// <summary>By the number of its bit, which is the exit's code.</summary>
    public bool Intercepts(uint exit) => (_intercepts[exit / BitsPerWord] >> (int)(exit % BitsPerWord) & 1) != 0;

    /// <summary>V_INTR_MASKING: the guest's IF and CR8 are about virtual interrupts, and physical ones obey the host's
    /// IF. Section 15.21.1.</summary>
    public bool MasksInterrupts => (_interrupt & Masking) != 0;

    /// <summary>V_TPR: the four bits of CR8.</summary>
    public byte Tpr
    {
        get => (byte)(_interrupt & TprMask & 15);
        set => _interrupt = _interrupt & ~TprMask | value;
    }

    /// <summary>V_IRQ, of a priority that V_TPR lets through. Section 15.21.4.</summary>
    public bool HasInterrupt => (_interrupt & Requested) != 0
        && ((_interrupt & IgnoresTpr) != 0 || (_interrupt >> PriorityShift & 15) > Tpr);

    /// <summary>Its vector; it is not requested any more.</summary>
    public int TakeInterrupt()
    {
        _interrupt &= ~Requested;
        return (byte)(_interrupt >> VectorShift);
    }

    /// <summary>As an exit writes it back.</summary>
    public ulong Interrupt => _interrupt;

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < Words; i++) state.Field($"intercepts-{i}", ref _intercepts[i]);
        state.Field("virtual-interrupt", ref _interrupt);
        state.Field("io-map", ref IoMap);
        state.Field("msr-map", ref MsrMap);
        state.Field("tsc-offset", ref TscOffset);
        state.Field("nested-cr3", ref NestedCr3);
        state.Field("asid", ref Asid);
        state.Field("pause-count", ref PauseCount);
        state.Field("pause-threshold", ref PauseThreshold);
        state.Field("nested-paging", ref NestedPaging);
    }
}
