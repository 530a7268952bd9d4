using Qkvm.Core.State;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Saving and loading: each mutable field of the architecture once.</summary>
public sealed unsafe partial class Cpu
{
    static readonly string[] GprNames = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10",
        "r11", "r12", "r13", "r14", "r15"];
    static readonly string[] SegmentNames = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];

    public void Exchange(StateStream state)
    {
        CpuState* s = State;
        for (int i = 0; i < GprNames.Length; i++) state.Field(GprNames[i], ref s->Gpr[i]);
        state.Field("rip", ref s->Rip);
        ulong flags = AllFlags, tsc = ReadTsc();
        state.Field("rflags", ref flags);
        for (int i = 0; i < SegmentNames.Length; i++) Exchange(state.Group(SegmentNames[i]), ref s->Segment(i));
        state.Field("gdtr-base", ref s->GdtrBase);
        state.Field("gdtr-limit", ref s->GdtrLimit);
        state.Field("idtr-base", ref s->IdtrBase);
        state.Field("idtr-limit", ref s->IdtrLimit);
        state.Field("cr0", ref s->Cr0);
        state.Field("cr2", ref s->Cr2);
        state.Field("cr3", ref s->Cr3);
        state.Field("cr4", ref s->Cr4);
        state.Field("cr8", ref _cr8);
        state.Field("xcr0", ref s->Xcr0);
        for (int i = 0; i < 8; i++) state.Field($"dr{i}", ref s->Dr[i]);
        state.Field("tsc", ref tsc);
        ExchangeMsrs(state.Group("msr"));
        state.Field("pkru", ref s->Pkru);
        state.Field("cpl", ref s->Cpl);
        state.Field("interrupt-shadow", ref s->InterruptShadow);
        byte halted = _waitsForStore ? (byte)0 : s->Halted;         // MWAIT may end at any time
        state.Field("halted", ref halted);
        state.Field("wait-for-sipi", ref s->WaitForSipi);
        state.Field("nmi-blocked", ref s->NmiBlocked);
        state.Field("nmi-pending", ref s->NmiPending);
        state.Field("init-pending", ref s->InitPending);
        state.Field("sipi-pending", ref s->SipiPending);
        state.Field("sipi-vector", ref s->SipiVector);
        state.Field("smi-pending", ref s->SmiPending);
        state.Field("a20-masked", ref s->A20Masked);
        state.Field("data-breakpoint-hit", ref _dataBreakpointHit);
        state.Block("xsave", new Span<byte>(s->Xsave.Bytes, sizeof(XsaveArea)));
        state.Field("x87-error", ref _tellsError);
        if (!state.IsLoading) return;
        _isA20Closed = s->A20Masked != 0;
        AllFlags = flags;
        s->Halted = halted;
        _waitsForStore = false;
        s->TscOffset = tsc - HostTsc();
        Validate();
        FindVectorsInUse();
        ModeChanged();
        FlushTlb(global: true);
        Call(CallSignal);                                          // what is pending was signalled to another
    }

    static void Exchange(StateStream state, ref Segment segment)
    {
        state.Field("selector", ref segment.Selector);
        state.Field("base", ref segment.Base);
        state.Field("limit", ref segment.Limit);
        state.Field("access", ref segment.Access);
    }

    void ExchangeMsrs(StateStream state)
    {
        CpuState* s = State;
        state.Field("efer", ref s->Efer);
        state.Field("star", ref s->Star);
        state.Field("lstar", ref s->LStar);
        state.Field("cstar", ref s->CStar);
        state.Field("fmask", ref s->FMask);
        state.Field("kernel-gs-base", ref s->KernelGsBase);
        state.Field("sysenter-cs", ref s->SysenterCs);
        state.Field("sysenter-esp", ref s->SysenterEsp);
        state.Field("sysenter-eip", ref s->SysenterEip);
        state.Field("tsc-aux", ref s->TscAux);
        state.Field("tsc-adjust", ref s->TscAdjust);
        state.Field("tsc-deadline", ref _tscDeadline);
        state.Field("pat", ref s->Pat);
        state.Field("misc-enable", ref s->MiscEnable);
        state.Field("xss", ref s->Xss);
        state.Field("pkrs", ref s->Pkrs);
        state.Field("mtrr-default", ref _mtrrDefault);
        state.Field("feature-control", ref _featureControl);
        state.Field("mcg-status", ref _mcgStatus);
        state.Field("mcg-control", ref _mcgControl);
        state.Field("debug-control", ref _debugControl);
        state.Field("kvm-wall-clock", ref _kvmWallClock);
        state.Field("kvm-system-time", ref _kvmSystemTime);
        state.Field("kvm-eoi", ref _kvmEoi);
        state.Field("kvm-eoi-elided", ref _eoiElided);
        ExchangeArray(state, "mtrr-physical", _mtrrPhysical);
        ExchangeArray(state, "mtrr-fixed", _mtrrFixed);
        ExchangeArray(state, "mc", _mcBanks);
        ExchangeArray(state, "vendor", _vendorValues);
    }

    static void ExchangeArray(StateStream state, string name, ulong[] values)
    {
        for (int i = 0; i < values.Length; i++) state.Field($"{name}-{i}", ref values[i]);
    }

    /// <summary>What the interpreter relies on; the rest faults as it would on any processor.</summary>
    void Validate()
    {
        const uint MxcsrMask = 0xFFFF;
        uint mxcsr = *(uint*)(State->Xsave.Bytes + XsaveArea.Mxcsr);
        if (State->Cpl is < 0 or > 3) throw new InvalidStateException($"cpl: {State->Cpl} is no privilege level");
        if ((State->Xcr0 & ~(Xcr0Supported | 1)) != 0)
            throw new InvalidStateException($"xcr0: this processor lacks {State->Xcr0:x}");
        if ((State->Cr4 & ~Cr4Supported) != 0)
            throw new InvalidStateException($"cr4: this processor lacks {State->Cr4:x}");
        if ((State->Efer & ~(EferSupported | Efer.Lma)) != 0)
            throw new InvalidStateException($"efer: this processor lacks {State->Efer:x}");
        if ((mxcsr & ~MxcsrMask) != 0) throw new InvalidStateException($"mxcsr: {mxcsr:x} has reserved bits");
    }
}
