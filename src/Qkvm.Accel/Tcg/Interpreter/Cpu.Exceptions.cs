using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Delivery of interrupts and exceptions. Intel SDM vol. 3, chapter 6, and vol. 2, INT n.</summary>
public sealed unsafe partial class Cpu
{
    enum Event
    {
        /// <summary>INT n, INT3, INTO: gate privilege is checked, error codes have no EXT.</summary>
        Software,
        External,
        Exception,
    }

    /// <summary>Enters the handler; what goes wrong on the way is an exception itself, up to double and triple fault.
    /// RIP is the address to return to.</summary>
    /// <param name="returnTo">Another such address, for the handler of this vector alone.</param>
    public void Deliver(int vector, uint? errorCode, bool software, bool external, ulong? returnTo = null)
    {
        Event kind = software ? Event.Software : external ? Event.External : Event.Exception;
        while (true)
        {
            try
            {
                if (IsGuest) _vectoring = EventOf(vector, errorCode, kind);
                Enter(vector, errorCode, kind, returnTo ?? State->Rip);
                _vectoring = default;
                return;
            }
            catch (GuestFault fault)
            {
                if (fault.Number == LeavesGuest) LeaveGuest(_exitCode, _exitInfo1, _exitInfo2);
                if (fault.Number == LeavesGuest || TryLeaveForException(fault.Number, fault.ErrorCode)) return;
                (int second, errorCode, returnTo) = (fault.Number, fault.ErrorCode, null);
                if (kind == Event.Exception && vector == Vector.DoubleFault
                    && (IsContributory(second) || IsPageFault(second)))
                {
                    if (!TryLeaveFor(SvmExit.Shutdown)) TripleFault();
                    return;
                }
                bool isDouble = kind == Event.Exception
                    && (IsContributory(vector) && IsContributory(second)
                        || IsPageFault(vector) && (IsContributory(second) || IsPageFault(second)));
                (vector, errorCode) = isDouble ? (Vector.DoubleFault, 0u) : (second, errorCode);
                kind = Event.Exception;
            }
        }
    }

    /// <summary>INT n, INT3, INTO, INT1: an exception on the way in is raised by the instruction itself.</summary>
    internal void RaiseInterrupt(int vector, bool privileged, ulong nextRip)
    {
        if (IsGuest)
            _vectoring = EventOf(vector, null,
                vector is Vector.Debug or Vector.Breakpoint or Vector.Overflow ? Event.Exception : Event.Software);
        Enter(vector, null, privileged ? Event.External : Event.Software, nextRip);
        _vectoring = default;
    }

    static SvmEvent EventOf(int vector, uint? errorCode, Event kind) => new(vector, kind switch
    {
        Event.Software => SvmEvent.Software,
        Event.Exception => SvmEvent.Exception,
        _ => vector == Vector.Nmi ? SvmEvent.Nmi : SvmEvent.Interrupt,
    }, errorCode);

    // Intel SDM vol. 3, table 6-4.
    static bool IsContributory(int vector) => vector is Vector.DivideError or Vector.InvalidTss or Vector.NotPresent
        or Vector.StackFault or Vector.GeneralProtection or Vector.ControlProtection;

    static bool IsPageFault(int vector) => vector == Vector.PageFault;

    /// <summary>The flags that a handler's frame holds. Section 17.3.1.1: RF is set for faults, so that the instruction
    /// restarts past its breakpoint; #DB says so itself.</summary>
    ulong FrameFlags(int vector, Event kind)
    {
        bool isFault = kind == Event.Exception
            && vector is not (Vector.Debug or Vector.Nmi or Vector.Breakpoint or Vector.Overflow or Vector.DoubleFault);
        return isFault ? AllFlags | Flag.Rf : AllFlags;
    }

    /// <summary>Some handler was entered; the single step trap asks.</summary>
    bool _hasEnteredHandler;                                       // not migrated: lives within one instruction

    void Enter(int vector, uint? errorCode, Event kind, ulong returnRip)
    {
        if (!IsProtected) EnterReal(vector, kind, returnRip);
        else EnterThroughGate(vector, errorCode, kind, returnRip);
        _hasEnteredHandler = true;
        if (vector != Vector.Debug || kind == Event.Software) return;
        _dataBreakpointHit = false;                                // DR6 tells of all at once
        WriteDr7(State->Dr[7] & ~Dr7GeneralDetect);
        _debugControl &= ~(DebugControlLbr | DebugControlBtf);
    }

    /// <summary>Real-address mode: the table of far pointers at the IDTR's base. Section 20.1.4.</summary>
    void EnterReal(int vector, Event kind, ulong returnRip)
    {
        uint external = kind == Event.Software ? 0u : 1u;
        if ((uint)vector * 4 + 3 > State->IdtrLimit) throw Gp((uint)vector << 3 | 2 | external);
        uint pointer = ReadSystem<uint>((uint)(State->IdtrBase + (uint)vector * 4));
        PushRealFrame(AllFlags, returnRip);
        AllFlags &= ~(Flag.If | Flag.Tf | Flag.Ac | Flag.Rf);
        SetRealSegment(Seg.Cs, (ushort)(pointer >> 16));
        Redirect(pointer & 0xFFFF);
    }

    void PushRealFrame(ulong flags, ulong returnRip)
    {
        PushFrame frame = PushFrame.Current(this, 0);
        frame.Push(flags, 2);
        frame.Push(State->Cs.Selector, 2);
        frame.Push(returnRip, 2);
        frame.Commit();
    }

    /// <summary>INT n in virtual-8086 mode. Section 20.3, table 20-2.</summary>
    internal void RaiseVirtual8086Interrupt(int vector, ulong nextRip)
    {
        bool trusted = Iopl == 3;
        if ((State->Cr4 & Cr4.Vme) != 0 && !IsInterruptTrapped(vector))
        {
            uint pointer = ReadLinear<uint>((uint)vector * 4);
            ulong flags = AllFlags;
            if (!trusted) flags = flags & ~Flag.If | Flag.Iopl | ((flags & Flag.Vif) != 0 ? Flag.If : 0);
            PushRealFrame(flags, nextRip);
            _hasEnteredHandler = true;
            AllFlags &= ~(Flag.Tf | Flag.Rf | (trusted ? Flag.If : Flag.Vif));
            SetRealSegment(Seg.Cs, (ushort)(pointer >> 16));
            Redirect(pointer & 0xFFFF);
            return;
        }
        if (!trusted) throw Gp();
        RaiseInterrupt(vector, false, nextRip);
    }

    /// <summary>The software interrupt redirection bitmap: the 32 bytes below the I/O permission bitmap.</summary>
    bool IsInterruptTrapped(int vector)
    {
        if ((State->Tr.Access & 8) == 0 || State->Tr.Limit < 103) throw Gp();
        uint at = ReadSystem<ushort>(WrapLinear(State->Tr.Base + IoMapBase)) - 32u + (uint)vector / 8;
        if (at > State->Tr.Limit) throw Gp();
        return (ReadSystem<byte>(WrapLinear(State->Tr.Base + at)) >> (vector & 7) & 1) != 0;
    }

    /// <summary>Protected, virtual-8086 and IA-32e modes.</summary>
    void EnterThroughGate(int vector, uint? errorCode, Event kind, ulong returnRip)
    {
        uint external = kind == Event.Software ? 0u : 1u;
        Descriptor gate = ReadGate(vector, kind, external);
        if (gate.Type == Descriptor.TaskGate)
        {
            EnterTask(gate.GateSelector, errorCode, returnRip, external);
            return;
        }
        ushort selector = gate.GateSelector;
        Descriptor code = CheckHandler(selector, external);
        int cpl = code.IsConforming ? Cpl : code.Dpl;
        bool isInner = cpl < Cpl, isLong = IsLongMode, isVirtual = IsVirtual8086;
        int width = isLong ? 8 : gate.Type >= 8 ? 4 : 2;
        ulong target = isLong ? gate.GateOffset64 : width == 4 ? gate.GateOffset32 : gate.GateOffset16;
        ulong flags = FrameFlags(vector, kind);

        Segment stack = State->Ss;
        PushFrame frame;
        if (isLong)
        {
            ulong rsp = gate.Ist != 0 ? ReadTssRsp((uint)gate.Ist * 8 + 28, external)
                : isInner ? ReadTssRsp((uint)cpl * 8 + 4, external) : Rsp;
            if (!IsCanonical(rsp)) throw Fault(Vector.StackFault, external);
            if (isInner) stack = new Segment { Selector = (ushort)cpl };
            frame = new PushFrame(this, stack, rsp & ~15UL, true, cpl, external);
        }
        else if (isInner)
        {
            Descriptor inner = ReadInnerStack(cpl, external, out ushort stackSelector, out uint esp);
            MarkAccessed(inner);
            stack = inner.ToSegment(stackSelector);
            stack.Access |= Segment.Accessed;
            frame = new PushFrame(this, stack, esp, false, cpl, stackSelector & 0xFFFCu | external);
        }
        else frame = PushFrame.Current(this, external);

        if (isLong ? !IsCanonical(target) : target > code.Limit) throw Gp(external);
        if (isVirtual)
        {
            frame.Push(State->Gs.Selector, width);
            frame.Push(State->Fs.Selector, width);
            frame.Push(State->Ds.Selector, width);
            frame.Push(State->Es.Selector, width);
        }
        if (isInner || isLong)
        {
            frame.Push(State->Ss.Selector, width);
            frame.Push(Rsp, width);
        }
        frame.Push(flags, width);
        frame.Push(State->Cs.Selector, width);
        frame.Push(returnRip, width);
        if (errorCode is { } error) frame.Push(error, width);
        MarkAccessed(code);

        ulong cleared = Flag.Tf | Flag.Vm | Flag.Rf | Flag.Nt;
        if ((gate.Type & 1) == 0) cleared |= Flag.If;
        AllFlags &= ~cleared;
        if (isVirtual)
        {
            SetNullSegment(Seg.Es, 0);
            SetNullSegment(Seg.Ds, 0);
            SetNullSegment(Seg.Fs, 0);
            SetNullSegment(Seg.Gs, 0);
        }
        State->Ss = stack;
        frame.Commit();
        SetCode(selector, code, cpl);
        Redirect(target);
    }

    Descriptor ReadGate(int vector, Event kind, uint external)
    {
        bool isLong = IsLongMode;
        uint size = isLong ? 16u : 8u, offset = (uint)vector * size, error = (uint)vector << 3 | 2 | external;
        if (offset + size - 1 > State->IdtrLimit) throw Gp(error);
        ulong at = WrapLinear(State->IdtrBase + offset);
        var gate = new Descriptor(ReadSystem<ulong>(at), isLong ? ReadSystem<ulong>(at + 8) : 0, at);
        bool valid = gate.SystemType switch
        {
            Descriptor.InterruptGate32 or Descriptor.TrapGate32 => !isLong || gate.HasCleanUpperHalf,
            Descriptor.TaskGate or Descriptor.InterruptGate16 or Descriptor.TrapGate16 => !isLong,
            _ => false,
        };
        if (!valid || kind == Event.Software && gate.Dpl < Cpl) throw Gp(error);
        if (!gate.IsPresent) throw Fault(Vector.NotPresent, error);
        return gate;
    }

    Descriptor CheckHandler(ushort selector, uint external)
    {
        if (IsNull(selector)) throw Gp(external);
        if (!TryReadDescriptor(selector, out Descriptor code)) throw Gp(selector, external);
        if (!code.IsCode || code.Dpl > Cpl) throw Gp(selector, external);
        if (IsLongMode && (!code.IsLong || code.IsBig)) throw Gp(selector, external);
        if (!code.IsPresent) throw SelectorFault(Vector.NotPresent, selector, external);
        if (IsVirtual8086 && (code.IsConforming || code.Dpl != 0)) throw Gp(selector, external);
        return code;
    }

    /// <summary>CS at a privilege level; its accessed bit has been seen to.</summary>
    void SetCode(ushort selector, in Descriptor code, int cpl)
    {
        SetSegment(Seg.Cs, (ushort)(selector & 0xFFFC | cpl), code);
        State->Cpl = cpl;
    }

    /// <summary>The address of the next instruction.</summary>
    internal ulong NextRip(Insn* i) => Is64Bit ? State->Rip + i->Length : (uint)(State->Rip + i->Length);
}
