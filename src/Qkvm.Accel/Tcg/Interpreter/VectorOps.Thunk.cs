using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Iced.Intel;
using Qkvm.Accel.Tcg.Thunks;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// Instructions that the host runs itself. Insn.Extra is the thunk, Immediate the offsets of its four operands in
// CpuState, OperandSize the memory operand's size, Reg1 its alignment mask, Reg2 the traits, Reg0 the vector register
// that VEX clears above.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    const uint MxcsrFlags = 0x3F, MxcsrMasks = 0x1F80, MxcsrControl = 0x2FFC0, BeforeComputing = 7;
    const int OffsetBits = 16;

    static Handler SelectThunk(in Instruction x, Insn* i)
    {
        Thunk thunk = s_thunks.Vector(x);
        ulong offsets = 0;
        for (int k = 0; k < x.OpCount; k++)
            if (x.GetOpKind(k) == OpKind.Register) offsets |= OffsetOf(x.GetOpRegister(k)) << k * OffsetBits;
        if (VectorThunkWriter.ReadsXmm0(x.Mnemonic)) offsets |= OffsetOf(Register.XMM0) << 3 * OffsetBits;
        if (VectorThunkWriter.IsStringCompare(x.Mnemonic))
            offsets |= OffsetOf(Register.RAX) << 2 * OffsetBits
                | OffsetOf(VectorThunkWriter.IsStringMask(x.Mnemonic) ? Register.XMM0 : Register.RCX) << 3 * OffsetBits;
        i->Extra = (ulong)thunk.Address;
        i->Immediate = offsets;
        i->OperandSize = thunk.MemorySize;
        i->Reg1 = MustAlign(x) ? (byte)(thunk.MemorySize - 1) : (byte)0;
        i->Reg2 = (byte)thunk.Traits;
        i->Reg0 = x.Encoding == EncodingKind.VEX ? WrittenVector(x) : Insn.NoRegister;
        bool isAvx = (thunk.Traits & ThunkTraits.Vex) != 0;
        if ((thunk.Traits & ~ThunkTraits.Vex) == ThunkTraits.Mxcsr)
            return isAvx ? &Floating<AvxFamily> : &Floating<SseFamily>;
        if ((thunk.Traits & ~ThunkTraits.Vex) != 0) return isAvx ? &General<AvxFamily> : &General<SseFamily>;
        if (thunk.MemorySize != 0) return isAvx ? &Load<AvxFamily> : &Load<SseFamily>;
        return isAvx ? &Registers<AvxFamily> : &Registers<SseFamily>;
    }

    /// <summary>The destination, if it is a vector register.</summary>
    static byte WrittenVector(in Instruction x)
    {
        if (VectorThunkWriter.IsStringMask(x.Mnemonic)) return 0;
        return x.Op0Kind == OpKind.Register && x.Op0Register.IsVectorRegister()
            && !VectorThunkWriter.IsStringCompare(x.Mnemonic)
            && new InstructionInfoFactory().GetInfo(x).GetOpAccess(0) is not (OpAccess.Read or OpAccess.None)
            ? (byte)x.Op0Register.GetNumber() : Insn.NoRegister;
    }

    /// <summary>What VEX does beyond the thunk's 256 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void ClearHighest<TFamily>(CpuState* state, Insn* i) where TFamily : struct, IVectorFamily
    {
        if (TFamily.ClearsUpper && i->Reg0 != Insn.NoRegister) *Highest(state, i->Reg0) = default;
    }

    static ulong OffsetOf(Register register)
    {
        CpuState probe;
        int number = register.GetNumber();
        byte* at = register.IsGPR() ? (byte*)(probe.Gpr + number)
            : probe.Xsave.Bytes + (register.IsMM() ? XsaveArea.St0 : XsaveArea.Xmm0) + number * 16;
        return (ulong)(at - (byte*)&probe);
    }

    /// <summary>Operands of 16 bytes must be aligned, unless encoded with VEX or exempt. Intel SDM vol. 2, table 2-18
    /// to 2-22.</summary>
    static bool MustAlign(in Instruction x) =>
        x.Encoding == EncodingKind.Legacy && x.MemorySize.GetSize() == 16
            && !VectorThunkWriter.IsStringCompare(x.Mnemonic)
        && x.Mnemonic is not (Mnemonic.Movups or Mnemonic.Movupd or Mnemonic.Movdqu or Mnemonic.Lddqu);

    static void Registers<TFamily>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily
    {
        TFamily.Check(cpu);
        Call(cpu.State, i, null, null);
        ClearHighest<TFamily>(cpu.State, i);
    }

    static void Load<TFamily>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily
    {
        TFamily.Check(cpu);
        Call(cpu.State, i, Source(cpu, i), null);
        ClearHighest<TFamily>(cpu.State, i);
    }

    static void Floating<TFamily>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily
    {
        TFamily.Check(cpu);
        Compute(cpu, i, i->OperandSize != 0 ? Source(cpu, i) : null);
        ClearHighest<TFamily>(cpu.State, i);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static byte* Source(Cpu cpu, Insn* i)
    {
        ulong linear = cpu.VectorLinear(i, i->OperandSize, write: false);
        if ((linear & i->Reg1) != 0) return Misaligned(cpu, i, linear);
        return cpu.VectorSource(i, linear, i->OperandSize);
    }

    /// <summary>As MXCSR.MM allows it: the host's instruction gets a copy. AMD APM vol. 1, section 4.2.2; moves that
    /// are aligned by name, and stores, want it still.</summary>
    static byte* Misaligned(Cpu cpu, Insn* i, ulong linear) =>
        TakesMisaligned(cpu) ? cpu.VectorCopy(i, linear, i->OperandSize) : throw cpu.Gp();

    static bool TakesMisaligned(Cpu cpu) => (Mxcsr(cpu) & MxcsrMisaligned) != 0;

    static void General<TFamily>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily
    {
        var traits = (ThunkTraits)i->Reg2;
        CpuState* state = cpu.State;
        if ((traits & ThunkTraits.Mmx) == 0) TFamily.Check(cpu);
        else cpu.CheckMmx();
        if ((traits & ThunkTraits.Stores) != 0)
        {
            Store(cpu, i, traits);
            return;
        }
        byte* memory = i->OperandSize != 0 ? Source(cpu, i) : null;
        if ((traits & ThunkTraits.Mmx) != 0) cpu.EnterMmx();
        ulong flags = (traits & ThunkTraits.Mxcsr) != 0 ? Compute(cpu, i, memory) : Call(state, i, memory, null);
        ClearHighest<TFamily>(state, i);
        if ((traits & ThunkTraits.WritesFlags) != 0) cpu.ArithmeticFlags = Thunk.EFlags(flags);
    }

    /// <summary>Into the scratch, and from there to memory. An MMX store that faults has not touched the x87 state, as
    /// on AMD's processors; Intel's have set TOP to 0 by then. The translator's likewise: its check of the page goes
    /// first.</summary>
    static void Store(Cpu cpu, Insn* i, ThunkTraits traits)
    {
        CpuState* state = cpu.State;
        int size = i->OperandSize;
        ulong linear = cpu.VectorLinear(i, size, write: true);
        if ((linear & i->Reg1) != 0) throw cpu.Gp();
        byte* target = cpu.VectorTarget(i, linear, size), scratch = state->VectorScratch;
        if ((traits & ThunkTraits.Mmx) != 0) cpu.EnterMmx();
        if ((traits & ThunkTraits.Mxcsr) != 0) Compute(cpu, i, scratch);
        else Call(state, i, scratch, null);
        if (target != null) CopyOperand(target, scratch, size);
        else cpu.WriteVector(linear, scratch, size);
    }

    static void CopyOperand(byte* to, byte* from, int size)
    {
        switch (size)
        {
            case 1: *to = *from; break;
            case 2: *(ushort*)to = *(ushort*)from; break;
            case 4: *(uint*)to = *(uint*)from; break;
            case 8: *(ulong*)to = *(ulong*)from; break;
            case 16: *(Vector128<byte>*)to = *(Vector128<byte>*)from; break;
            default: Buffer.MemoryCopy(from, to, size, size); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static ulong Call(CpuState* state, Insn* i, byte* memory, uint* mxcsr)
    {
        ulong offsets = i->Immediate;
        byte* at = (byte*)state;
        var thunk = (delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, byte*, byte*, uint*,
            ulong>)i->Extra;
        return thunk(at + (ushort)offsets, at + (ushort)(offsets >> 16), at + (ushort)(offsets >> 32),
            at + (offsets >> 48), memory, mxcsr);
    }

    /// <summary>With the guest's MXCSR. The usual one may stay in the host's register: it differs in flags
    /// only.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static ulong Compute(Cpu cpu, Insn* i, byte* memory)
    {
        CpuState* state = cpu.State;
        uint* mxcsr = (uint*)(state->Xsave.Bytes + XsaveArea.Mxcsr);
        return (*mxcsr & MxcsrControl) == MxcsrMasks ? Call(state, i, memory, mxcsr)
            : ComputeUnusually(cpu, i, memory, mxcsr);
    }

    /// <summary>With all exceptions masked; afterwards #XM for those that the guest has not, and nothing but flags has
    /// changed.
    /// Intel SDM vol. 1, section 11.5.2.</summary>
    /// <remarks>Deviation: an unmasked underflow whose result is exact is not seen.</remarks>
    static ulong ComputeUnusually(Cpu cpu, Insn* i, byte* memory, uint* mxcsr)
    {
        CpuState* state = cpu.State;
        uint before = *mxcsr, running = before & ~(MxcsrFlags | MxcsrMisaligned) | MxcsrMasks;
        var destination = (Vector128<byte>*)((byte*)state + (ushort)i->Immediate);
        Vector128<byte>* upper = destination + VectorThunkWriter.UpperHalf / 16;
        (Vector128<byte> oldLow, Vector128<byte> oldHigh) = (*destination, *upper);
        ulong flags = Call(state, i, memory, &running);
        SetHostMxcsr();
        uint raised = running & MxcsrFlags, unmasked = raised & ~(before >> 7);
        if ((unmasked & BeforeComputing) != 0) raised &= BeforeComputing;
        *mxcsr = before | raised;
        if (unmasked == 0) return flags;
        if (((ThunkTraits)i->Reg2 & ThunkTraits.Stores) == 0) (*destination, *upper) = (oldLow, oldHigh);
        throw (state->Cr4 & Cr4.Osxmmexcpt) != 0 ? cpu.Fault(Vector.Simd) : cpu.Ud();
    }
}
