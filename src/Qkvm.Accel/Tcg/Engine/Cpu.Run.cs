using System.Runtime.CompilerServices;
using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>The run loop. Inner: blocks, as long as nothing calls. Outer: faults, interrupts, halts, single
/// steps.</summary>
public sealed unsafe partial class Cpu
{
    // Of _leave, read after each instruction.
    const int Jumped = 1, LeaveBlock = 2;

    int _leave;
    ulong _codeBase;
    ulong _instructions;

    /// <summary>Instructions executed since power-on; repeated string instructions count once.</summary>
    public ulong Instructions => _instructions;

    /// <summary>A near jump: RIP becomes this, checked against CS.limit or for canonical form first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void JumpTo(ulong rip)
    {
        if (_is64Bit ? !IsCanonical(rip) : rip > State->Cs.Limit) throw Gp();
        State->Rip = rip;
        _leave |= Jumped;
    }

    /// <summary>RIP has its final value: the loop adds no length.</summary>
    public void Redirect(ulong rip)
    {
        State->Rip = rip;
        _leave |= Jumped;
    }

    /// <summary>For an interrupted string instruction: it is run again after the loop has looked around.</summary>
    public void RunAgain() => _leave |= Jumped | LeaveBlock;

    /// <summary>Something waits outside the inner loop; long instructions look at this between chunks.</summary>
    public bool IsCalled => _attention != 0;

    /// <summary>Runs until the machine is needed.</summary>
    public VCpuExit Run()
    {
        StoresAgain();
        try
        {
            BeginSteps();
            return RunUntilNeeded();
        }
        finally
        {
            StoresNothing();
        }
    }

    VCpuExit RunUntilNeeded()
    {
        ModeChanged();
        while (true)
        {
            try
            {
                if (_attention != 0 && Attend() is { } exit)
                {
                    StoreX87();
                    return exit;
                }
                if (IsAtStop)
                {
                    StoreX87();
                    return StopAtPoint();
                }
                if (CodeTrace is { WantsSteps: true }) RunTraced();
                else if (_translatable && Lockstep) RunLockstep();
                else if (_translatable) RunTranslated();
                else if (_codeStops != null) RunOne();
                else RunBlocks();
            }
            catch (GuestFault fault)
            {
                DeliverFault(fault);
                if (Steps != VCpuSteps.None) EndStep();
            }
        }
    }

    void RunTraced()
    {
        StoreX87();
        while (_attention == 0)
        {
            CodeTrace!.Step(this);
            RunOne();
            if (IsAtStop) return;
        }
    }

    /// <summary>Blocks, one after the other, until somebody calls.</summary>
    void RunBlocks()
    {
        CpuState* state = State;
        Block* previous = _none;
        StoreX87();
        while (_attention == 0 && !_translatable)
        {
            if (_codeSize != 8) CheckFetch();
            ulong linear = LinearOf(state->Rip), key = _key;
            Block* block;
            if (previous->NextLinear == linear && previous->NextKey == key) block = previous->Next;
            else
            {
                block = FindBlock(linear);
                if (block->IsTransient) { previous = _none; goto run; }
                if (_key == key) Link(previous, linear, key, block);
            }
            previous = block;
            if (_codeSize != 8 && state->Rip + block->Size - 1 > state->Cs.Limit)
            {
                RunOne();                                          // up to the one that goes beyond
                continue;
            }
        run:
            Insn* insn = block->First, end = block->End;
            _instructions += (ulong)block->Count;
            do
            {
                insn->Run(this, insn);
                if (_leave != 0) goto left;
                state->Rip += insn->Length;
            }
            while (++insn != end);
            insn--;
            if ((insn->Flags & InsnFlags.System) != 0) ModeChanged();
            continue;
        left:
            int leave = _leave;
            _leave = 0;
            if ((leave & Jumped) == 0) state->Rip += insn->Length;
            if ((insn->Flags & InsnFlags.System) != 0) ModeChanged();
            if ((leave & LeaveBlock) != 0) FinishLateWrite();
        }
    }

    static void Link(Block* from, ulong linear, ulong key, Block* to)
    {
        from->NextLinear = linear;
        from->NextKey = key;
        from->Next = to;
    }

    /// <summary>One instruction, for single steps, breakpoints and interrupt shadows.</summary>
    internal void RunOne()
    {
        if (_codeSize != 8) CheckFetch();
        Insn* insn = FindBlock(LinearOf(State->Rip))->First;
        if (!_is64Bit && State->Rip + insn->Length - 1u > State->Cs.Limit) throw Gp();
        RunDecoded(insn);
        ModeChanged();
    }

    void RunDecoded(Insn* insn)
    {
        _instructions++;
        if ((insn->Flags & InsnFlags.Vectors) != 0)
        {
            StoreX87();
            _modeMayDiffer = true;                                  // MXCSR and FCW are part of it
        }
        insn->Run(this, insn);
        int leave = _leave;
        _leave = 0;
        if ((leave & Jumped) == 0) State->Rip += insn->Length;
        else _hasBranched = (insn->Flags & InsnFlags.EndsBlock) != 0;
        if ((leave & LeaveBlock) != 0) FinishLateWrite();
        if ((insn->Flags & InsnFlags.System) != 0) ModeChanged();
    }

    /// <summary>Outside 64-bit mode EIP is 32 bits wide and stays below CS.limit; each block looks whether it ends
    /// there.</summary>
    void CheckFetch()
    {
        State->Rip = (uint)State->Rip;
        if (State->Rip > State->Cs.Limit) throw Gp();
    }

    internal void DeliverFault(GuestFault fault)
    {
        _leave = 0;
        if (fault.Number == LeavesGuest) LeaveGuest(_exitCode, _exitInfo1, _exitInfo2);
        else if (fault.Number == FrozenByError && !TryLeaveFor(SvmExit.FerrFreeze)) Freeze();
        if (fault.Number >= FrozenByError || TryLeaveForException(fault.Number, fault.ErrorCode))
        {
            (_leave, _shadowBefore, State->InterruptShadow) = (0, 0, 0);
            return;
        }
        (_shadowBefore, State->InterruptShadow) = (0, 0);
        EndHalt();                                                  // a trap after HLT
        Trace?.Exception(this, fault.Number, fault.ErrorCode);
        Deliver(fault.Number, fault.ErrorCode, software: false, external: false);
        _leave = 0;
        ModeChanged();
    }

    // The last TryHost for writing in a page with code: looked at again when the write is done.
    int _lateWriteMap, _lateWriteSize;
    byte* _lateWriteHost;

    void FinishLateWrite()
    {
        if (_lateWriteSize == 0) return;
        _code[_lateWriteMap].Written(_lateWriteHost, _lateWriteSize);
        _lateWriteSize = 0;
    }

    /// <summary>After anything that may change privilege, mode, paging or the interrupt flag: refreshes what is derived
    /// from it.</summary>
    public void ModeChanged()
    {
        CpuState* state = State;
        ulong cr0 = state->Cr0, cr4 = state->Cr4, efer = state->Efer, flags = state->RflagsSystem;
        bool isLong = (efer & Efer.Lma) != 0;
        _is64Bit = isLong && (state->Cs.Access & Segment.Long) != 0;
        _codeSize = _is64Bit ? 8 : (state->Cs.Access & Segment.Big) != 0 ? 4 : 2;
        _codeBase = _is64Bit ? 0 : state->Cs.Base;
        _checksRights = (cr0 & Cr0.Pe) != 0 && (flags & Tcg.Rflags.Vm) == 0;
        _canonicalShift = (cr4 & Cr4.La57) != 0 ? 7 : 16;
        ulong paging = cr0 & (Cr0.Pg | Cr0.Wp) ^ cr4 << 32 ^ efer & (Efer.Lma | Efer.Nx) ^ (ulong)state->Pkru << 24
            ^ (ulong)state->A20Masked << 1;
        if (paging != _pagingSeen || state->Cr3 != _cr3Seen)
        {
            (_pagingSeen, _cr3Seen) = (paging, state->Cr3);
            FlushTlb(global: true);
        }
        const ulong aligned = Tcg.Rflags.Ac;
        _checksAlignment = state->Cpl == 3 && (flags & aligned) != 0 && (cr0 & Cr0.Am) != 0;
        (_untagsLower, _untagsUpper) = UntagsOf(state->Cr3, cr4);
        int set = _checksAlignment ? TlbSet.UserAligned : state->Cpl == 3 ? TlbSet.User
            : (flags & Tcg.Rflags.Ac) != 0 ? TlbSet.SupervisorAc : TlbSet.Supervisor;
        _tlb = _tlbEntries + TlbSet.Start(set);
        SetKey();
        _modeMayDiffer = true;
        _jit->Tlb = _tlb;
        _jit->FetchTlb = _tlbEntries + TlbSet.Start(state->Cpl == 3 ? TlbSet.UserFetch : TlbSet.SupervisorFetch);
        SetWidth();
        _translatable = CanTranslate();
        if (state->Dr[7] != _dr7Seen) BreakpointsChanged();
        int call = 0;
        if (state->InterruptShadow != 0 || (flags & (Tcg.Rflags.Tf | Tcg.Rflags.Rf)) != 0
            || _breaksOnCode) call = CallStep;
        if (state->Halted != 0 || state->WaitForSipi != 0) call |= CallHalt;
        if (Apic is { HasInterrupt: true } && LetsInterrupts(flags) || HasVirtualInterrupt) call |= CallInterrupt;
        if (_dataBreakpointHit) call |= CallStep;
        if (state->NmiPending != 0 && state->NmiBlocked == 0 && !_holdsInterrupts) call |= CallSignal;
        if ((state->SmiPending | state->InitPending) != 0 && state->Smm == 0 && !_holdsInterrupts) call |= CallSignal;
        if (call != 0) Interlocked.Or(ref _attention, call);
    }

    bool _checksRights;

    /// <summary>CPL 3, EFLAGS.AC and CR0.AM: accesses must be aligned.</summary>
    bool _checksAlignment;
    ulong _pagingSeen = ulong.MaxValue, _cr3Seen;
}
