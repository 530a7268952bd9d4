using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Far JMP and CALL, directly and through gates. Intel SDM vol. 2, CALL and JMP; vol. 3, section
/// 5.8.</summary>
public sealed unsafe partial class Cpu
{
    internal void JumpFar(ushort selector, ulong offset, ulong nextRip)
    {
        if (IsRealAddressing)
        {
            if (offset > State->Cs.Limit) throw Gp();
            SetRealSegment(Seg.Cs, selector);
            Redirect(offset);
            return;
        }
        Descriptor target = ReadTarget(selector);
        if (!target.IsSegment) { TransferThroughSystemDescriptor(selector, target, false, nextRip); return; }
        CheckDirectTarget(selector, target, offset);
        MarkAccessed(target);
        SetCode(selector, target, Cpl);
        Redirect(offset);
    }

    /// <param name="selector">Of code, gate or task.</param>
    /// <param name="offset">Ignored by gates and tasks.</param>
    /// <param name="size">Operand size in bytes.</param>
    /// <param name="nextRip">Where to return.</param>
    internal void CallFar(ushort selector, ulong offset, int size, ulong nextRip)
    {
        PushFrame frame;
        if (IsRealAddressing)
        {
            if (offset > State->Cs.Limit) throw Gp();
            frame = PushFrame.Current(this, 0);
            frame.Push(State->Cs.Selector, size);
            frame.Push(nextRip, size);
            frame.Commit();
            SetRealSegment(Seg.Cs, selector);
            Redirect(offset);
            return;
        }
        Trace?.FarCall(this, selector, offset, size);
        Descriptor target = ReadTarget(selector);
        if (!target.IsSegment) { TransferThroughSystemDescriptor(selector, target, true, nextRip); return; }
        CheckDirectTarget(selector, target, offset);
        CallSameRing(selector, target, offset, size, nextRip);
    }

    void CallSameRing(ushort selector, in Descriptor code, ulong offset, int size, ulong nextRip)
    {
        PushFrame frame = PushFrame.Current(this, 0);
        frame.Push(State->Cs.Selector, size);
        frame.Push(nextRip, size);
        MarkAccessed(code);
        frame.Commit();
        SetCode(selector, code, Cpl);
        Redirect(offset);
    }

    Descriptor ReadTarget(ushort selector)
    {
        if (IsNull(selector)) throw Gp();
        if (!TryReadDescriptor(selector, out Descriptor target)) throw Gp(selector, 0);
        return target;
    }

    void CheckDirectTarget(ushort selector, in Descriptor code, ulong offset)
    {
        if (!code.IsCode) throw Gp(selector, 0);
        if (IsLongMode && code.IsLong && code.IsBig) throw Gp(selector, 0);
        if (code.IsConforming ? code.Dpl > Cpl : (selector & 3) > Cpl || code.Dpl != Cpl) throw Gp(selector, 0);
        if (!code.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        CheckCodeOffset(code, offset);
    }

    void CheckCodeOffset(in Descriptor code, ulong offset)
    {
        if (IsLongMode && code.IsLong ? !IsCanonical(offset) : offset > code.Limit) throw Gp();
    }

    void TransferThroughSystemDescriptor(ushort selector, in Descriptor target, bool isCall, ulong nextRip)
    {
        bool isLong = IsLongMode;
        int type = target.Type;
        bool valid = type switch
        {
            Descriptor.CallGate32 => IsWholeSystemDescriptor(selector, target),
            Descriptor.CallGate16 or Descriptor.TaskGate or Descriptor.Tss16 or Descriptor.Tss32 => !isLong,
            _ => false,
        };
        if (!valid || target.Dpl < Math.Max(Cpl, selector & 3)) throw Gp(selector, 0);
        if (type is Descriptor.Tss16 or Descriptor.Tss32 && (selector & 4) != 0) throw Gp(selector, 0);
        if (!target.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        TaskSwitch cause = isCall ? TaskSwitch.Call : TaskSwitch.Jump;
        switch (type)
        {
            case Descriptor.TaskGate:
                Descriptor task = CheckTaskOfGate(target.GateSelector, 0);
                CheckTaskSwitch(target.GateSelector, cause, null);
                SwitchTask(target.GateSelector, task, cause, nextRip, 0);
                break;
            case Descriptor.Tss16 or Descriptor.Tss32:
                CheckTaskSwitch(selector, cause, null);
                SwitchTask(selector, target, cause, nextRip, 0);
                break;
            default:
                TransferThroughCallGate(target, isCall, nextRip);
                break;
        }
    }

    void TransferThroughCallGate(in Descriptor gate, bool isCall, ulong nextRip)
    {
        ushort selector = gate.GateSelector;
        Descriptor code = ReadTarget(selector);
        bool isLong = IsLongMode;
        bool permitted = isCall || code.IsConforming ? code.Dpl <= Cpl : code.Dpl == Cpl;
        if (!code.IsCode || !permitted || isLong && (!code.IsLong || code.IsBig)) throw Gp(selector, 0);
        if (!code.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        int width = isLong ? 8 : gate.Type == Descriptor.CallGate32 ? 4 : 2;
        ulong offset = isLong ? gate.GateOffset64 : width == 4 ? gate.GateOffset32 : gate.GateOffset16;
        CheckCodeOffset(code, offset);
        if (!isCall)
        {
            MarkAccessed(code);
            SetCode(selector, code, Cpl);
            Redirect(offset);
        }
        else if (!code.IsConforming && code.Dpl < Cpl) CallInnerRing(gate, selector, code, offset, width, nextRip);
        else CallSameRing(selector, code, offset, width, nextRip);
    }

    /// <summary>Switches to the inner ring's stack and copies the parameters there. Section 5.8.5.</summary>
    void CallInnerRing(in Descriptor gate, ushort selector, in Descriptor code, ulong offset, int width, ulong nextRip)
    {
        int cpl = code.Dpl;
        Segment stack;
        PushFrame frame;
        if (width == 8)
        {
            ulong rsp = ReadTssRsp((uint)cpl * 8 + 4, 0);
            if (!IsCanonical(rsp)) throw Fault(Vector.StackFault, 0);
            stack = new Segment { Selector = (ushort)cpl };
            frame = new PushFrame(this, stack, rsp, true, cpl, 0);
        }
        else
        {
            Descriptor inner = ReadInnerStack(cpl, 0, out ushort stackSelector, out uint esp);
            MarkAccessed(inner);
            stack = inner.ToSegment(stackSelector);
            stack.Access |= Segment.Accessed;
            frame = new PushFrame(this, stack, esp, false, cpl, stackSelector & 0xFFFCu);
        }
        frame.Push(State->Ss.Selector, width);
        frame.Push(Rsp, width);
        if (width != 8)
            for (int i = gate.Parameters - 1; i >= 0; i--)
                frame.Push(ReadSized(Seg.Ss, Rsp + (ulong)(i * width) & StackMask, width), width);
        frame.Push(State->Cs.Selector, width);
        frame.Push(nextRip, width);
        MarkAccessed(code);
        State->Ss = stack;
        frame.Commit();
        SetCode(selector, code, cpl);
        Redirect(offset);
    }
}
