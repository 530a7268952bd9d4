using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Far RET and IRET. Intel SDM vol. 2, IRET and RET.</summary>
public sealed unsafe partial class Cpu
{
    const ulong ReturnedFlags = Flag.Arithmetic | Flag.Tf | Flag.Df | Flag.Nt;

    /// <param name="size">Operand size in bytes.</param>
    /// <param name="release">Bytes of parameters to drop.</param>
    internal void ReturnFar(int size, uint release)
    {
        var frame = new PopFrame(this);
        ulong rip = frame.Pop(size);
        var selector = (ushort)frame.Pop(size);
        if (IsRealAddressing)
        {
            if (rip > State->Cs.Limit) throw Gp();
            frame.Skip(release);
            frame.Commit();
            SetRealSegment(Seg.Cs, selector);
            Redirect(rip);
            return;
        }
        frame.Skip(release);
        ReturnProtected(selector, rip, ref frame, size, release, popsStack: false, 0, 0);
    }

    /// <param name="size">Operand size in bytes.</param>
    /// <param name="nextRip">Where this task goes on, should it return to another.</param>
    internal void ReturnFromInterrupt(int size, ulong nextRip)
    {
        State->NmiBlocked = 0;                                     // even if it faults: Intel SDM vol. 3, section 6.7.1
        if (!IsProtected)
        {
            ulong mask = ReturnedFlags | Flag.If | Flag.Iopl;
            if (size != 2) mask |= Flag.Rf | Flag.Ac | Flag.Id;
            ReturnReal(size, mask);
        }
        else if (IsVirtual8086) ReturnVirtual8086(size);
        else if ((State->RflagsSystem & Flag.Nt) != 0)
        {
            if (IsLongMode) throw Gp();
            ReturnToPreviousTask(nextRip);
        }
        else
        {
            var frame = new PopFrame(this);
            ulong rip = frame.Pop(size);
            var selector = (ushort)frame.Pop(size);
            ulong flags = frame.Pop(size);
            if (size == 4 && (flags & Flag.Vm) != 0 && Cpl == 0 && !IsLongMode)
                ReturnToVirtual8086(rip, selector, flags, ref frame);
            else ReturnProtected(selector, rip, ref frame, size, 0, Is64Bit, flags, ReturnedFlagsMask(size));
        }
    }

    ulong ReturnedFlagsMask(int size)
    {
        ulong mask = ReturnedFlags;
        if (size != 2) mask |= Flag.Rf | Flag.Ac | Flag.Id;
        if (Cpl <= Iopl) mask |= Flag.If;
        if (Cpl == 0) mask |= size == 2 ? Flag.Iopl : Flag.Iopl | Flag.Vif | Flag.Vip;
        return mask;
    }

    void ReturnReal(int size, ulong mask)
    {
        var frame = new PopFrame(this);
        ulong rip = frame.Pop(size);
        var selector = (ushort)frame.Pop(size);
        ulong flags = frame.Pop(size);
        if (rip > State->Cs.Limit) throw Gp();
        frame.Commit();
        SetRealSegment(Seg.Cs, selector);
        SetFlags(flags, mask);
        Redirect(rip);
    }

    /// <summary>IRET inside virtual-8086 mode; with CR4.VME the interrupt flag of a task below IOPL 3 is VIF.</summary>
    void ReturnVirtual8086(int size)
    {
        if (Iopl == 3)
        {
            ulong mask = ReturnedFlags | Flag.If;
            if (size == 4) mask |= Flag.Rf | Flag.Ac | Flag.Id;
            ReturnReal(size, mask);
            return;
        }
        if (size != 2 || (State->Cr4 & Cr4.Vme) == 0) throw Gp();
        var frame = new PopFrame(this);
        ulong rip = frame.Pop(2);
        var selector = (ushort)frame.Pop(2);
        ulong flags = frame.Pop(2);
        CheckVirtualInterruptFlag(flags);
        frame.Commit();
        SetRealSegment(Seg.Cs, selector);
        SetFlags(VirtualFlags(flags), ReturnedFlags | Flag.Vif);
        Redirect(rip);
    }

    /// <summary>A pending virtual interrupt or a single step traps into the monitor.</summary>
    void CheckVirtualInterruptFlag(ulong flags)
    {
        bool enables = (flags & Flag.If) != 0 && (State->RflagsSystem & Flag.Vip) != 0;
        if (enables || (flags & Flag.Tf) != 0) throw Gp();
    }

    static ulong VirtualFlags(ulong flags) => flags & 0xFFFF | ((flags & Flag.If) != 0 ? Flag.Vif : 0);

    void ReturnToVirtual8086(ulong rip, ushort code, ulong flags, ref PopFrame frame)
    {
        ulong esp = frame.Pop(4);
        var stack = (ushort)frame.Pop(4);
        var es = (ushort)frame.Pop(4);
        var ds = (ushort)frame.Pop(4);
        var fs = (ushort)frame.Pop(4);
        var gs = (ushort)frame.Pop(4);
        SetFlags(flags, ReturnedFlags | Flag.If | Flag.Iopl | Flag.Rf | Flag.Vm | Flag.Ac | Flag.Vif | Flag.Vip
            | Flag.Id);
        State->Cpl = 3;
        SetRealSegment(Seg.Cs, code);
        SetRealSegment(Seg.Ss, stack);
        SetRealSegment(Seg.Es, es);
        SetRealSegment(Seg.Ds, ds);
        SetRealSegment(Seg.Fs, fs);
        SetRealSegment(Seg.Gs, gs);
        Rsp = esp;
        Redirect(rip & 0xFFFF);
    }

    /// <summary>To the same or an outer ring.</summary>
    /// <param name="selector">Of the code segment.</param>
    /// <param name="rip">In it.</param>
    /// <param name="frame">What follows on the stack: stack pointer and segment, for an outer ring.</param>
    /// <param name="size">Operand size.</param>
    /// <param name="release">Bytes to drop from the outer stack.</param>
    /// <param name="popsStack">Also for the same ring: IRET in 64-bit mode.</param>
    /// <param name="flags">New flags.</param>
    /// <param name="flagsMask">Which of them.</param>
    void ReturnProtected(ushort selector, ulong rip, ref PopFrame frame, int size, uint release, bool popsStack,
        ulong flags, ulong flagsMask)
    {
        Descriptor code = CheckReturn(selector);
        int cpl = selector & 3;
        bool isOuter = cpl > Cpl, to64 = IsLongMode && code.IsLong;
        ulong rsp = 0;
        ushort stackSelector = 0;
        Descriptor stack = default;
        if (isOuter || popsStack)
        {
            rsp = frame.Pop(size);
            stackSelector = (ushort)frame.Pop(size);
            if (!IsNull(stackSelector)) stack = CheckReturnStack(stackSelector, cpl);
            else if (!to64 || cpl == 3 || (stackSelector & 3) != cpl) throw Gp();
        }
        if (to64 ? !IsCanonical(rip) : rip > code.Limit) throw Gp();
        MarkAccessed(code);
        if (isOuter || popsStack)
        {
            if (IsNull(stackSelector)) SetNullSegment(Seg.Ss, stackSelector);
            else
            {
                MarkAccessed(stack);
                SetSegment(Seg.Ss, stackSelector, stack);
            }
            SetCode(selector, code, cpl);
            ulong mask = StackMask;
            SetStackPointer(rsp + release & mask, mask);
            if (isOuter) DropInnerSegments();
        }
        else
        {
            frame.Commit();
            SetCode(selector, code, cpl);
        }
        SetFlags(flags, flagsMask);
        Redirect(rip);
    }

    Descriptor CheckReturn(ushort selector)
    {
        if (IsNull(selector)) throw Gp();
        if (!TryReadDescriptor(selector, out Descriptor code)) throw Gp(selector, 0);
        int rpl = selector & 3;
        if (!code.IsCode || rpl < Cpl) throw Gp(selector, 0);
        if (code.IsConforming ? code.Dpl > rpl : code.Dpl != rpl) throw Gp(selector, 0);
        if (IsLongMode && code.IsLong && code.IsBig) throw Gp(selector, 0);
        if (!code.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        return code;
    }

    Descriptor CheckReturnStack(ushort selector, int cpl)
    {
        if (!TryReadDescriptor(selector, out Descriptor stack)) throw Gp(selector, 0);
        if ((selector & 3) != cpl || !stack.IsWritableData || stack.Dpl != cpl) throw Gp(selector, 0);
        if (!stack.IsPresent) throw SelectorFault(Vector.StackFault, selector);
        return stack;
    }
}
