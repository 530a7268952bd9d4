using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>VMRUN. Spec: AMD64 APM vol. 2, section 15.5.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>RAX of VMRUN, VMLOAD and VMSAVE: physical.</summary>
    internal ulong CheckVmcb(ulong address)
    {
        if ((address & PageMask) != 0 || (address & ~_physicalMask) != 0) throw Gp();
        return MaskA20(address);
    }

    /// <summary>The host goes on at <paramref name="nextRip"/> after the exit, or at once if the guest cannot
    /// be.</summary>
    internal void RunGuest(ulong address, ulong nextRip)
    {
        _vmcb = address;
        Span<byte> area = stackalloc byte[Vmcb.Size];
        Memory.Read(address, area);
        var vmcb = new Vmcb(area);
        _control.Load(vmcb);
        if (!IsConsistent(vmcb))
        {
            TellExit(vmcb, SvmExit.Invalid, 0, 0, 0);
            _holdsInterrupts = true;
            Redirect(nextRip);
            RunAgain();
            return;
        }
        SaveHost(nextRip);
        _hostInterrupts = (State->RflagsSystem & Flag.If) != 0;
        (_nestedCr0, _nestedCr4, _nestedEfer) = (State->Cr0, State->Cr4, State->Efer);
        CheckGuestTlb();
        LoadWorld(vmcb, isGuest: true);
        State->InterruptShadow = _control.Shadow ? CpuState.StiShadow : (byte)0;
        (_holdsInterrupts, _hasEnteredHandler, _dataBreakpointHit) = (false, true, false);
        _vectoring = default;
        _pausesLeft = _control.PauseCount;
        SwitchWorld();
        Redirect(State->Rip);
        RunAgain();
        Inject(new SvmEvent(_control.EventInjection));
        Call(CallSignal);                                          // what GIF held back
    }

    /// <summary>Section 15.5.1, "Canonicalization and Consistency Checks".</summary>
    bool IsConsistent(in Vmcb vmcb)
    {
        const ulong mapSize = 0x3000, msrMapSize = 0x2000;
        ulong cr0 = vmcb[Vmcb.Cr0], cr3 = vmcb[Vmcb.Cr3], cr4 = vmcb[Vmcb.Cr4], efer = vmcb[Vmcb.Efer];
        bool isPaged = (cr0 & Tcg.Cr0.Pg) != 0, isLong = isPaged && (efer & Tcg.Efer.Lme) != 0;
        if ((efer & Tcg.Efer.Svme) == 0 || (efer & ~(EferSupported | Tcg.Efer.Lma)) != 0) return false;
        if (cr0 >> 32 != 0 || (cr0 & (Tcg.Cr0.Nw | Tcg.Cr0.Cd)) == Tcg.Cr0.Nw) return false;
        if ((cr4 & ~Cr4Supported) != 0 || !isLong && (cr4 & Cr4.Pcide) != 0) return false;
        if ((vmcb[Vmcb.Dr6] | vmcb[Vmcb.Dr7]) >> 32 != 0) return false;
        if (isPaged && (cr0 & Tcg.Cr0.Pe) == 0) return false;
        if (isLong)
        {
            const ushort both = Segment.Long | Segment.Big;
            ulong lam = HasLam ? Tcg.Cr3.LamU48 | Tcg.Cr3.LamU57 : 0;
            if ((cr4 & Cr4.Pae) == 0 || (cr3 & ~(_physicalMask | lam)) != 0) return false;
            if ((vmcb.ReadSegment(Vmcb.SegmentAt(Seg.Cs)).Access & both) == both) return false;
        }
        if (!_control.Intercepts(SvmExit.Vmrun) || _control.Asid == 0) return false;
        if (_control.IoMap > _physicalMask - mapSize || _control.MsrMap > _physicalMask - msrMapSize) return false;
        if (_control.NestedPaging && (!_hasNestedPaging || (State->Cr0 & Tcg.Cr0.Pg) == 0 || !IsPat(vmcb[Vmcb.Pat])
            || IsLongMode && (_control.NestedCr3 & ~_physicalMask) != 0)) return false;
        var injected = new SvmEvent(_control.EventInjection);
        return !injected.IsValid || injected.IsLegal;
    }

    /// <summary>What VMRUN loads of a guest, and an exit of the host. FS, GS, TR, LDTR and more are VMLOAD's.</summary>
    void LoadWorld(in Vmcb vmcb, bool isGuest)
    {
        CpuState* s = State;
        for (int i = 0; i <= Seg.Ds; i++) s->Segment(i) = vmcb.ReadSegment(Vmcb.SegmentAt(i));
        (s->GdtrBase, s->GdtrLimit) = vmcb.ReadTable(Vmcb.Gdtr);
        (s->IdtrBase, s->IdtrLimit) = vmcb.ReadTable(Vmcb.Idtr);
        s->Cr0 = vmcb[Vmcb.Cr0] & Cr0Writable | Tcg.Cr0.Et | (isGuest ? 0 : Tcg.Cr0.Pe);
        (s->Cr3, s->Cr4) = (vmcb[Vmcb.Cr3], vmcb[Vmcb.Cr4] & Cr4Supported);
        bool isLong = (s->Cr0 & Tcg.Cr0.Pg) != 0 && (vmcb[Vmcb.Efer] & Tcg.Efer.Lme) != 0;
        s->Efer = vmcb[Vmcb.Efer] & EferSupported | (isLong ? Tcg.Efer.Lma : 0);
        ulong flags = vmcb[Vmcb.Rflags] & RestoredFlags;
        if (isLong || !isGuest || (s->Cr0 & Tcg.Cr0.Pe) == 0) flags &= ~Flag.Vm;
        AllFlags = flags | 2;
        (s->Rip, Rsp, Rax) = (isLong ? vmcb[Vmcb.Rip] : (uint)vmcb[Vmcb.Rip], vmcb[Vmcb.Rsp], vmcb[Vmcb.Rax]);
        if (_control.NestedPaging) s->Pat = vmcb[Vmcb.Pat];
        if (isGuest) s->Cr2 = vmcb[Vmcb.Cr2];
        s->Dr[6] = isGuest ? vmcb[Vmcb.Dr6] & Dr6Writable | Dr6Fixed : s->Dr[6];
        s->Dr[7] = isGuest ? vmcb[Vmcb.Dr7] & Dr7Writable | Dr7Fixed : Dr7Fixed;
        s->Cpl = !isGuest || (s->Cr0 & Tcg.Cr0.Pe) == 0 ? 0
            : (flags & Flag.Vm) != 0 ? 3 : vmcb.Bytes[Vmcb.Cpl] & 3;
    }

    /// <summary>And saves.</summary>
    void SaveWorld(in Vmcb vmcb, ulong rip)
    {
        CpuState* s = State;
        for (int i = 0; i <= Seg.Ds; i++) vmcb.WriteSegment(Vmcb.SegmentAt(i), s->Segment(i));
        vmcb.WriteTable(Vmcb.Gdtr, s->GdtrBase, s->GdtrLimit);
        vmcb.WriteTable(Vmcb.Idtr, s->IdtrBase, s->IdtrLimit);
        vmcb.Bytes[Vmcb.Cpl] = (byte)s->Cpl;
        Write(vmcb, Vmcb.Efer, s->Efer);
        Write(vmcb, Vmcb.Cr4, s->Cr4);
        Write(vmcb, Vmcb.Cr3, s->Cr3);
        Write(vmcb, Vmcb.Cr0, s->Cr0);
        Write(vmcb, Vmcb.Dr7, s->Dr[7]);
        Write(vmcb, Vmcb.Dr6, s->Dr[6]);
        Write(vmcb, Vmcb.Rflags, AllFlags);
        Write(vmcb, Vmcb.Rip, rip);
        Write(vmcb, Vmcb.Rsp, Rsp);
        Write(vmcb, Vmcb.Rax, Rax);

        static void Write(Vmcb vmcb, int at, ulong value) => vmcb[at] = value;
    }

    void SaveHost(ulong nextRip)
    {
        Span<byte> area = stackalloc byte[Vmcb.Size];
        area.Clear();
        var host = new Vmcb(area);
        SaveWorld(host, nextRip);
        host[Vmcb.Pat] = State->Pat;
        // FS, GS, LDTR and TR lie between these parts; hosts keep theirs there by VMSAVE.
        WriteBack(_hostSave, area, Vmcb.StateStart, Vmcb.Fs);
        WriteBack(_hostSave, area, Vmcb.Gdtr, Vmcb.Ldtr);
        WriteBack(_hostSave, area, Vmcb.Idtr, Vmcb.Tr);
        WriteBack(_hostSave, area, Vmcb.Cpl, Vmcb.Star);
        WriteBack(_hostSave, area, Vmcb.Pat, Vmcb.Pat + sizeof(ulong));
    }

    void WriteBack(ulong address, ReadOnlySpan<byte> area, int from, int to) =>
        Memory.Write(address + (ulong)from, area[from..to]);

    /// <summary>Section 15.20. No intercept is asked for the event itself. Should the guest be left meanwhile, its RIP
    /// is still what VMRUN loaded, by which KVM knows the instruction again.</summary>
    void Inject(SvmEvent injected)
    {
        if (!injected.IsValid) return;
        bool isSoft = injected.Type == SvmEvent.Software || injected.Type == SvmEvent.Exception
            && injected.Vector is Vector.Breakpoint or Vector.Overflow;
        int vector = injected.Type == SvmEvent.Nmi ? Vector.Nmi : injected.Vector;
        State->InterruptShadow = 0;
        Deliver(vector, injected.Error, injected.Type == SvmEvent.Software,
            injected.Type is SvmEvent.Interrupt or SvmEvent.Nmi, isSoft && _hasNextRip ? _control.NextRip : null);
        _leave = Jumped | LeaveBlock;
    }
}
