namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Single steps and breakpoints. Intel SDM vol. 3, chapter 17.</summary>
/// <remarks>Pages with data breakpoints never get TLB tags, so that their accesses come by here.
/// Deviation: an interrupt between the rounds of a repeated string instruction pushes RF clear, so that a breakpoint on
/// that instruction triggers again.</remarks>
public sealed unsafe partial class Cpu
{
    const ulong Dr6SingleStep = 0x4000;
    const int OnExecute = 0, OnWrite = 1, OnPort = 2, OnReadWrite = 3;

    // IA32_DEBUGCTL. LBR is kept and does nothing: the registers read as zero.
    const ulong DebugControlLbr = 1, DebugControlBtf = 2;

    /// <summary>Others are reserved. Intel SDM vol. 4, table 2-2; AMD APM vol. 2, section 13.1.1.5.</summary>
    ulong DebugControlKnown => IsAmd ? 0x3Fu : 0x1FFC3u;

    ulong _dr7Seen;
    bool _breaksOnCode, _guestWatches, _watchesPorts;

    /// <summary>The guest or a debugger watches data.</summary>
    bool _watchesData;

    /// <summary>A trap waits for the end of the instruction: a data or port breakpoint, or the single step that SYSRET
    /// began.</summary>
    bool _dataBreakpointHit;

    /// <summary>One instruction under TF, RF, an interrupt shadow or instruction breakpoints.</summary>
    void Step()
    {
        const ulong Tf = Tcg.Rflags.Tf, Rf = Tcg.Rflags.Rf;
        ulong flags = State->RflagsSystem;
        // Intel's suppress them after MOV SS and POP SS (section 17.3.1.1), AMD's do not.
        bool isCovered = (flags & Rf) != 0 || State->InterruptShadow == CpuState.StackShadow && !IsAmd;
        if (_breaksOnCode && !isCovered) CheckCodeBreakpoints();
        (_shadowBefore, State->InterruptShadow) = (State->InterruptShadow, 0);
        _hasEnteredHandler = false;
        _hasBranched = false;
        if ((flags & Rf) == 0) RunOne();
        else
        {
            // RF covers this instruction; those that load it (IRETD) decide anew.
            State->RflagsSystem &= ~Rf;
            try
            {
                RunOne();
            }
            catch (GuestFault)
            {
                State->RflagsSystem |= Rf;
                throw;
            }
        }
        _shadowBefore = 0;
        // INT n cleared TF itself; after MOV SS and POP SS the trap waits with the interrupts.
        bool isStep = (flags & Tf) != 0 && ((_debugControl & DebugControlBtf) == 0 || _hasBranched);
        if (isStep && !_hasEnteredHandler && State->InterruptShadow != CpuState.StackShadow)
        {
            State->Dr[6] |= Dr6SingleStep;
            _dataBreakpointHit = false;
            throw Fault(Vector.Debug);
        }
    }

    /// <summary>The instruction was a branch, and taken. Section 17.4.3, single-stepping on branches.</summary>
    bool _hasBranched;                                             // not migrated: lives within one instruction

    /// <summary>A trap by the flags that SYSRET loaded: as if SYSCALL had just completed. AMD APM vol. 2, section
    /// 6.1.1; Intel's do likewise.</summary>
    internal void StepAfterReturn()
    {
        if ((State->RflagsSystem & Tcg.Rflags.Tf) == 0) return;
        State->Dr[6] |= Dr6SingleStep;
        _dataBreakpointHit = true;
        Interlocked.Or(ref _attention, CallStep);
    }

    /// <summary>SYSCALL steps by the flags that its mask has left.</summary>
    internal void StepAfterCall()
    {
        if ((State->RflagsSystem & Tcg.Rflags.Tf) == 0) _hasEnteredHandler = true;
    }

    void BreakpointsChanged()
    {
        _dr7Seen = State->Dr[7];
        (_breaksOnCode, _guestWatches, _watchesPorts) = (false, false, false);
        for (int i = 0; i < 4; i++)
        {
            if (!IsEnabled(i)) continue;
            if (Kind(i) == OnExecute) _breaksOnCode = true;
            else if (Kind(i) is OnWrite or OnReadWrite) _guestWatches = true;
            else _watchesPorts = true;
        }
        _watchesData = _guestWatches || _dataStops != null;
        FlushTlb(global: true);
    }

    /// <summary>A repeated instruction lets it in after the round that met it.</summary>
    internal bool HasTrap => _dataBreakpointHit;

    bool IsEnabled(int number) => (_dr7Seen >> number * 2 & 3) != 0;
    int Kind(int number) => (int)(_dr7Seen >> 16 + number * 4 & 3);

    /// <summary>LEN: 1, 2, 8 or 4 bytes.</summary>
    int Length(int number) => (int)(_dr7Seen >> 18 + number * 4 & 3) switch { 0 => 1, 1 => 2, 2 => 8, _ => 4 };

    bool WatchesPage(ulong linear)
    {
        if (!_watchesData) return false;
        if (HasDataStop(linear)) return true;
        for (int i = 0; i < 4; i++)
            if (IsEnabled(i) && Kind(i) is OnWrite or OnReadWrite && ((State->Dr[i] ^ linear) & ~PageMask) == 0)
                return true;
        return false;
    }

    void CheckCodeBreakpoints()
    {
        ulong at = State->Rip + _codeBase, hit = 0;
        for (int i = 0; i < 4; i++)
            if (IsEnabled(i) && Kind(i) == OnExecute && State->Dr[i] == at) hit |= 1UL << i;
        if (hit == 0) return;
        State->Dr[6] = State->Dr[6] & ~0xFUL | hit;
        throw Fault(Vector.Debug);
    }

    /// <summary>A hit traps after the instruction.</summary>
    void CheckWatchpoints(ulong linear, int size, bool write)
    {
        if (_dataStops != null) CheckDataStops(linear, size, write);
        for (int i = 0; i < 4; i++)
        {
            if (!IsEnabled(i) || !(Kind(i) == OnReadWrite || Kind(i) == OnWrite && write)) continue;
            ulong start = State->Dr[i] & ~(ulong)(Length(i) - 1);
            if (linear >= start + (ulong)Length(i) || start >= linear + (ulong)size) continue;
            HitBreakpoint(i);
        }
    }

    void HitBreakpoint(int number)
    {
        State->Dr[6] |= 1UL << number;
        _dataBreakpointHit = true;
        _leave |= LeaveBlock;
        Interlocked.Or(ref _attention, CallStep);
    }

    /// <summary>IN, OUT, INS and OUTS, with CR4.DE.</summary>
    internal void CheckPortBreakpoints(ushort port, int size)
    {
        if (!_watchesPorts || (State->Cr4 & Cr4.De) == 0) return;
        for (int i = 0; i < 4; i++)
        {
            if (!IsEnabled(i) || Kind(i) != OnPort) continue;
            ulong start = State->Dr[i] & ~(ulong)(Length(i) - 1);
            if (port < start + (ulong)Length(i) && start < port + (ulong)size) HitBreakpoint(i);
        }
    }
}
