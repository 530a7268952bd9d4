using System.Runtime.Intrinsics;
using Iced.Intel;
using Qkvm.Accel.Tcg.Thunks;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// AVX-512, instructions on mask registers included: operands go into a frame, the host runs the instruction on it.
// Insn.Extra is the EvexForm; Immediate the operands' register numbers, a byte each, then the mask's. Intel SDM vol. 2,
// section 2.7.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    const int MaskNumberAt = 4 * 8;

    /// <summary>Encoded with EVEX, or on a mask register.</summary>
    internal static bool IsEvex(in Instruction x)
    {
        if (x.Encoding == EncodingKind.EVEX) return true;
        if (x.Encoding != EncodingKind.VEX) return false;
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Register && x.GetOpRegister(i).IsK()) return true;
        return false;
    }

    static Handler SelectEvex(in Instruction x, Insn* i)
    {
        if (x.IsVsib) return SelectScattered(x, i);
        ulong numbers = (ulong)(x.HasOpMask ? x.OpMask.GetNumber() : 0) << MaskNumberAt;
        for (int k = 0; k < x.OpCount; k++)
            if (x.GetOpKind(k) == OpKind.Register) numbers |= (ulong)x.GetOpRegister(k).GetNumber() << k * 8;
        i->Extra = (ulong)s_thunks.Evex(x);
        i->Immediate = numbers;
        return &RunEvex;
    }

    internal static ulong* Opmask(CpuState* state, int number) =>
        (ulong*)(state->Xsave.Bytes + XsaveArea.Opmask0) + number;

    /// <summary>The upper 256 bits of ZMM0 to 15.</summary>
    internal static Vector256<byte>* Highest(CpuState* state, int number) =>
        (Vector256<byte>*)(state->Xsave.Bytes + XsaveArea.ZmmHigh0) + number;

    static Vector512<byte>* Zmm16(CpuState* state, int number) =>
        (Vector512<byte>*)(state->Xsave.Bytes + XsaveArea.Zmm16) + (number - 16);

    internal static void CopyOut512(CpuState* state, int number, byte* to)
    {
        if (number >= 16)
        {
            *(Vector512<byte>*)to = *Zmm16(state, number);
            return;
        }
        CopyOut(state, number, to);
        *(Vector256<byte>*)(to + 32) = *Highest(state, number);
    }

    static void CopyIn512(Cpu cpu, int number, byte* from)
    {
        CpuState* state = cpu.State;
        if (number >= 16)
        {
            *Zmm16(state, number) = *(Vector512<byte>*)from;
            cpu.UsesMasks();
            return;
        }
        Vector256<byte> highest = *(Vector256<byte>*)(from + 32);
        CopyIn(state, number, from);
        *Highest(state, number) = highest;
        if (highest != default) cpu.UsesUppers();
    }

    static void RunEvex(Cpu cpu, Insn* i)
    {
        cpu.CheckAvx512();
        CpuState* state = cpu.State;
        var form = (EvexForm*)i->Extra;
        ulong numbers = i->Immediate;
        byte* frame = state->EvexOperands;
        int masked = (byte)(numbers >> MaskNumberAt);
        ulong mask = masked == 0 ? ulong.MaxValue : *Opmask(state, masked);
        *(ulong*)(frame + EvexFrame.Mask) = mask;
        for (int k = 0; k < 4; k++)
            LoadOperand(state, (EvexOperand)form->Kinds[k], (byte)(numbers >> k * 8), frame + k * EvexFrame.Slot);
        bool stores = (form->Traits & ThunkTraits.Stores) != 0;
        ulong linear = 0;
        if (form->Access != EvexAccess.None)
        {
            ulong touched = form->ActiveBytes(mask, forFaults: true);
            linear = cpu.MaskedLinear(i, touched, stores);
            if (touched != 0 && (linear & form->AlignmentMask) != 0) throw cpu.Gp();
            if (stores) cpu.PrepareMasked(i, linear, touched);
            else cpu.ReadMasked(i, linear, frame + EvexFrame.Memory, touched, form->MemorySize);
        }
        ulong flags = (form->Traits & ThunkTraits.Mxcsr) != 0 ? ComputeEvex(cpu, form, frame) : form->Run(frame);
        if (stores)
            cpu.WriteMasked(i, linear, frame + EvexFrame.Memory, form->ActiveBytes(mask, forFaults: false),
                form->MemorySize);
        for (int k = 0; k < 4; k++)
            if (form->Written[k] != 0)
                StoreOperand(cpu, (EvexOperand)form->Kinds[k], (byte)(numbers >> k * 8), frame + k * EvexFrame.Slot);
        if ((form->Traits & ThunkTraits.WritesFlags) != 0) cpu.ArithmeticFlags = Thunk.EFlags(flags);
    }

    static void LoadOperand(CpuState* state, EvexOperand kind, int number, byte* slot)
    {
        switch (kind)
        {
            case EvexOperand.Vector: CopyOut512(state, number, slot); break;
            case EvexOperand.Mask: *(ulong*)slot = *Opmask(state, number); break;
            case EvexOperand.General: *(ulong*)slot = state->Gpr[number]; break;
        }
    }

    static void StoreOperand(Cpu cpu, EvexOperand kind, int number, byte* slot)
    {
        switch (kind)
        {
            case EvexOperand.Vector:
                CopyIn512(cpu, number, slot);
                break;
            case EvexOperand.Mask:
                *Opmask(cpu.State, number) = *(ulong*)slot;
                cpu.UsesMasks();
                break;
            case EvexOperand.MaskPair:
                *Opmask(cpu.State, number & ~1) = *(ulong*)slot;
                *Opmask(cpu.State, number | 1) = *(ulong*)(slot + sizeof(ulong));
                cpu.UsesMasks();
                break;
            case EvexOperand.General:
                cpu.State->Gpr[number] = *(ulong*)slot;
                break;
        }
    }

    /// <summary>With the guest's MXCSR; as <see cref="ComputeUnusually"/>, but what faults has changed nothing outside
    /// the frame.</summary>
    static ulong ComputeEvex(Cpu cpu, EvexForm* form, byte* frame)
    {
        uint before = Mxcsr(cpu);
        bool isUsual = (before & MxcsrControl) == MxcsrMasks;
        ref uint running = ref *(uint*)(frame + EvexFrame.Mxcsr);
        running = isUsual ? before : before & ~(MxcsrFlags | MxcsrMisaligned) | MxcsrMasks;
        ulong flags = form->Run(frame);
        if (isUsual)
        {
            Mxcsr(cpu) = running;
            return flags;
        }
        SetHostMxcsr();
        uint raised = running & MxcsrFlags, unmasked = raised & ~(before >> 7);
        if ((unmasked & BeforeComputing) != 0) raised &= BeforeComputing;
        Mxcsr(cpu) = before | raised;
        if (unmasked != 0) throw (cpu.State->Cr4 & Cr4.Osxmmexcpt) != 0 ? cpu.Fault(Vector.Simd) : cpu.Ud();
        return flags;
    }

    static void SetHostMxcsr() => ((delegate* unmanaged[SuppressGCTransition]<uint, void>)s_setHostMxcsr)(MxcsrMasks);
}
