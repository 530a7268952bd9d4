using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>SYSCALL, SYSRET, SYSENTER and SYSEXIT. Intel SDM vol. 2; AMD APM vol. 3 where only AMD has a form (SYSCALL
/// outside 64-bit mode) or lacks it (SYSENTER in long mode).</summary>
public sealed unsafe partial class Cpu
{
    internal const ushort Ring3 = 3 << 5;

    internal void SystemCall(ulong nextRip)
    {
        if ((State->Efer & Efer.Sce) == 0 || !IsProtected || !Is64Bit && !IsAmd) throw Ud();
        var selector = (ushort)(State->Star >> 32 & 0xFFFC);
        ulong target = Is64Bit ? State->LStar : IsLongMode ? State->CStar : (uint)State->Star;
        if (IsLongMode)
        {
            Rcx = nextRip;
            State->Gpr[11] = AllFlags & ~Flag.Rf;
            AllFlags &= ~(State->FMask | Flag.Rf);
            SetFlatSegment(Seg.Cs, selector, FlatAccess | Segment.Code | Segment.Long);
        }
        else
        {
            Rcx = (uint)nextRip;
            AllFlags &= ~(Flag.Vm | Flag.If | Flag.Rf);
            SetFlatSegment(Seg.Cs, selector, FlatAccess | Segment.Code | Segment.Big);
        }
        SetFlatSegment(Seg.Ss, (ushort)(selector + 8), FlatAccess | Segment.Big);
        State->Cpl = 0;
        StepAfterCall();
        Redirect(target);
    }

    internal void SystemReturn(int size)
    {
        if ((State->Efer & Efer.Sce) == 0 || !IsProtected || !Is64Bit && !IsAmd) throw Ud();
        if (Cpl != 0) throw Gp();
        if (size == 8 && !IsCanonical(Rcx)) throw Gp();
        var selector = (ushort)(State->Star >> 48 | 3);
        if (IsLongMode) AllFlags = State->Gpr[11] & 0x3C7FD7 | 2;
        else AllFlags |= Flag.If;
        ulong target = size == 8 ? Rcx : (uint)Rcx;
        if (size == 8)
            SetFlatSegment(Seg.Cs, (ushort)(selector + 16), FlatAccess | Segment.Code | Segment.Long | Ring3);
        else SetFlatSegment(Seg.Cs, selector, FlatAccess | Segment.Code | Segment.Big | Ring3);
        SetFlatSegment(Seg.Ss, (ushort)((selector & 0xFFFC) + 8 | 3), FlatAccess | Segment.Big | Ring3);
        State->Cpl = 3;
        Redirect(target);
        StepAfterReturn();
    }

    internal void SystemEnter()
    {
        if (IsAmd && IsLongMode) throw Ud();
        if (!IsProtected || (State->SysenterCs & 0xFFFC) == 0) throw Gp();
        var selector = (ushort)(State->SysenterCs & 0xFFFC);
        bool isLong = IsLongMode;
        AllFlags &= ~(Flag.Vm | Flag.If | Flag.Rf);
        SetFlatSegment(Seg.Cs, selector, (ushort)(FlatAccess | Segment.Code | (isLong ? Segment.Long : Segment.Big)));
        SetFlatSegment(Seg.Ss, (ushort)(selector + 8), FlatAccess | Segment.Big);
        State->Cpl = 0;
        Rsp = isLong ? State->SysenterEsp : (uint)State->SysenterEsp;
        Redirect(isLong ? State->SysenterEip : (uint)State->SysenterEip);
    }

    internal void SystemExit(int size)
    {
        if (IsAmd && IsLongMode) throw Ud();
        if (!IsProtected || (State->SysenterCs & 0xFFFC) == 0 || Cpl != 0) throw Gp();
        if (size == 8 && (!IsCanonical(Rcx) || !IsCanonical(Rdx))) throw Gp();
        var selector = (ushort)((State->SysenterCs & 0xFFFC) + (size == 8 ? 32u : 16u) | 3);
        var mode = size == 8 ? Segment.Long : Segment.Big;
        SetFlatSegment(Seg.Cs, selector, (ushort)(FlatAccess | Segment.Code | mode | Ring3));
        SetFlatSegment(Seg.Ss, (ushort)(selector + 8), FlatAccess | Segment.Big | Ring3);
        State->Cpl = 3;
        (Rsp, ulong target) = size == 8 ? (Rcx, Rdx) : ((uint)Rcx, (uint)Rdx);
        Redirect(target);
    }
}
