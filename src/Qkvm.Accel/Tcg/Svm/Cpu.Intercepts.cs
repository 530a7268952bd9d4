namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended; an Insn lies in its
// arena until its block has ended.
/// <summary>Which of a guest's instructions its host wants to see. Spec: AMD64 APM vol. 2, sections 15.7 to
/// 15.14.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>The instruction is intercepted, and the guest has been left: the handler does nothing more.</summary>
    internal bool Leaves(Insn* i, uint exit, ulong info1 = 0, ulong info2 = 0)
    {
        if (!IsGuest || !_control.Intercepts(exit)) return false;
        LeaveGuest(exit, info1, info2, NextRip(i));
        return true;
    }

    /// <summary>MOV to CR0 or LMSW. Section 15.8.1: changes of TS and MP alone are let pass by the selective
    /// intercept.</summary>
    internal bool LeavesForCr0(Insn* i, ulong value, ulong info)
    {
        if (Leaves(i, SvmExit.WriteCr0, info)) return true;
        const ulong passed = Cr0.Ts | Cr0.Mp;
        return ((value ^ State->Cr0) & ~passed) != 0 && Leaves(i, SvmExit.WriteCr0Selective, info);
    }

    /// <summary>EXITINFO1 of a MOV to or from a control register, or a debug register.</summary>
    internal ulong RegisterInfo(byte register, bool isControl) =>
        !_hasDecodeAssists ? 0 : register | (isControl ? SvmExit.HasRegister : 0);

    /// <summary>EXITINFO1 where decode assists tell it.</summary>
    internal ulong AssistInfo(ulong info) => _hasDecodeAssists ? info : 0;

    /// <summary>Section 15.11: two bits for each register of three ranges; all others are intercepted.</summary>
    internal bool LeavesForMsr(Insn* i, uint msr, bool write)
    {
        const uint range = 0x2000, rangeSize = 0x800, second = 0xC0000000, third = 0xC0010000;
        if (!IsGuest || !_control.Intercepts(SvmExit.Msr)) return false;
        uint at = msr < range ? msr / 4 : msr - second < range ? rangeSize + (msr - second) / 4
            : msr - third < range ? 2 * rangeSize + (msr - third) / 4 : uint.MaxValue;
        if (at != uint.MaxValue)
        {
            ulong bits = Memory.Read((_control.MsrMap & ~PageMask) + at, 1) >> (int)(msr & 3) * 2;
            if ((bits >> (write ? 1 : 0) & 1) == 0) return false;
        }
        LeaveGuest(SvmExit.Msr, write ? 1u : 0, 0, NextRip(i));
        return true;
    }

    /// <summary>Section 15.10: a bit for each port, and EXITINFO1 that describes the instruction.</summary>
    internal bool LeavesForPort(Insn* i, ushort port, bool isIn, bool isString)
    {
        const int repeats = 1 << 3, strings = 1 << 2, sizeShift = 4, addressShift = 7, segmentShift = 10,
            portShift = 16;
        if (!IsGuest || !_control.Intercepts(SvmExit.Ports)) return false;
        ulong at = (_control.IoMap & ~PageMask) + port / 8u;
        ulong bits = (Memory.Read(at, 1) | Memory.Read(at + 1, 1) << 8) >> (port & 7);
        if ((bits & (1u << i->OperandSize) - 1) == 0) return false;
        ulong info = (ulong)port << portShift | (isIn ? 1u : 0) | (ulong)i->OperandSize << sizeShift
            | (ulong)(i->AddressSize / 2) << addressShift;
        if (isString)
        {
            info |= strings | (ulong)(isIn ? Seg.Es : i->Segment) << segmentShift;
            if ((i->Flags & (InsnFlags.Rep | InsnFlags.Repne)) != 0) info |= repeats;
        }
        LeaveGuest(SvmExit.Ports, info, NextRip(i), NextRip(i));
        return true;
    }

    /// <summary>Before a task is switched. Section 15.14.1.</summary>
    void CheckTaskSwitch(ushort selector, TaskSwitch cause, uint? errorCode)
    {
        const ulong byReturn = 1UL << 36, byJump = 1UL << 38, hasError = 1UL << 44, resumes = 1UL << 48;
        if (!IsGuest || !_control.Intercepts(SvmExit.TaskSwitch)) return;
        ulong info = errorCode is { } error ? hasError | error : 0;
        if (cause == TaskSwitch.Return) info |= byReturn;
        if (cause == TaskSwitch.Jump) info |= byJump;
        if ((State->RflagsSystem & Tcg.Rflags.Rf) != 0) info |= resumes;
        throw Exit(SvmExit.TaskSwitch, selector, info);
    }

    bool InterceptsTsc => _control.Intercepts(SvmExit.Rdtsc) || _control.Intercepts(SvmExit.Rdtscp);

    /// <summary>A guest's translated code does nothing that is intercepted.</summary>
    ulong GuestModeBits() =>
        ModeGuest | (_control.Intercepts(SvmExit.Pause) || _control.Intercepts(SvmExit.Pushf) ? ModeIntercepts : 0);

    /// <summary>PAUSE. So many pass as the host lets, counted anew after each that comes late. Section
    /// 15.14.4.</summary>
    internal bool LeavesForPause(Insn* i)
    {
        if (!IsGuest || !_control.Intercepts(SvmExit.Pause)) return false;
        ulong now = HostTsc();
        bool isLoop = !_hasPauseThreshold || _control.PauseThreshold == 0
            || now - _lastPause <= _control.PauseThreshold;
        if (!isLoop) _pausesLeft = _control.PauseCount;
        _lastPause = now;
        if (!_hasPauseFilter || _pausesLeft == 0) return Leaves(i, SvmExit.Pause);
        _pausesLeft--;
        return false;
    }

    readonly bool _hasPauseFilter, _hasPauseThreshold;
    ulong _lastPause;                                              // neither is migrated: a host cannot count on them
    ushort _pausesLeft;
}
