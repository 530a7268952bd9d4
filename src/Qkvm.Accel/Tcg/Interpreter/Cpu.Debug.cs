namespace Qkvm.Accel.Tcg.Interpreter;

/// <summary>Single steps and breakpoints. Intel SDM vol. 3, chapter 17.</summary>
/// <remarks>Pages with data breakpoints never get TLB tags, so that their accesses come by here.
/// Deviations: I/O breakpoints do not trigger; a repeated string instruction may run several rounds before the trap.</remarks>
public sealed unsafe partial class Cpu
{
    const ulong Dr6SingleStep = 0x4000;
    const int OnExecute = 0, OnWrite = 1, OnReadWrite = 3;

    ulong _dr7Seen;
    bool _breaksOnCode, _watchesData, _dataBreakpointHit;

    /// <summary>One instruction under TF, RF, an interrupt shadow or instruction breakpoints.</summary>
    void Step()
    {
        const ulong Tf = Interpreter.Rflags.Tf, Rf = Interpreter.Rflags.Rf;
        ulong flags = State->RflagsSystem;
        if (_breaksOnCode && (flags & Rf) == 0) CheckCodeBreakpoints();
        State->InterruptShadow = 0;
        _hasEnteredHandler = false;
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
        // INT n cleared TF itself; after MOV SS and POP SS the trap waits with the interrupts.
        if ((flags & Tf) != 0 && !_hasEnteredHandler && State->InterruptShadow != CpuState.StackShadow)
        {
            State->Dr[6] |= Dr6SingleStep;
            _dataBreakpointHit = false;
            throw Fault(Vector.Debug);
        }
    }

    void BreakpointsChanged()
    {
        _dr7Seen = State->Dr[7];
        (_breaksOnCode, _watchesData) = (false, false);
        for (int i = 0; i < 4; i++)
        {
            if (!IsEnabled(i)) continue;
            if (Kind(i) == OnExecute) _breaksOnCode = true;
            else if (Kind(i) is OnWrite or OnReadWrite) _watchesData = true;
        }
        FlushTlb(global: true);
    }

    bool IsEnabled(int number) => (_dr7Seen >> number * 2 & 3) != 0;
    int Kind(int number) => (int)(_dr7Seen >> 16 + number * 4 & 3);

    /// <summary>LEN: 1, 2, 8 or 4 bytes.</summary>
    int Length(int number) => (int)(_dr7Seen >> 18 + number * 4 & 3) switch { 0 => 1, 1 => 2, 2 => 8, _ => 4 };

    bool WatchesPage(ulong linear)
    {
        if (!_watchesData) return false;
        for (int i = 0; i < 4; i++)
            if (IsEnabled(i) && Kind(i) != OnExecute && ((State->Dr[i] ^ linear) & ~PageMask) == 0) return true;
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
        for (int i = 0; i < 4; i++)
        {
            if (!IsEnabled(i) || !(Kind(i) == OnReadWrite || Kind(i) == OnWrite && write)) continue;
            ulong start = State->Dr[i] & ~(ulong)(Length(i) - 1);
            if (linear >= start + (ulong)Length(i) || start >= linear + (ulong)size) continue;
            State->Dr[6] |= 1UL << i;
            _dataBreakpointHit = true;
            _leave |= LeaveBlock;
            Interlocked.Or(ref _attention, CallStep);
        }
    }
}
