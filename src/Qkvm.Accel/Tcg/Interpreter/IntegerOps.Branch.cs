using System.Runtime.CompilerServices;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>Near JMP CALL RET Jcc LOOPcc JCXZ. Outside 64-bit mode the target is truncated to the operand size.
/// <see cref="Insn.Extra"/> is the distance from this instruction to the target.</summary>
static unsafe partial class IntegerOps
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static ulong Target<T>(Cpu cpu, Insn* i) where T : unmanaged => Width.Cut<T>(cpu.State->Rip + i->Extra);

    static void Jump<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.JumpTo(Target<T>(cpu, i));
    static void JumpReg<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.JumpTo(Width.Zero(cpu.GetReg<T>(i->Reg0)));
    static void JumpMem<T>(Cpu cpu, Insn* i) where T : unmanaged => cpu.JumpTo(Width.Zero(cpu.Load<T>(i)));

    static void JumpIf<TIf, T>(Cpu cpu, Insn* i) where TIf : struct, ICondition where T : unmanaged
    {
        if (TIf.Holds(cpu)) cpu.JumpTo(Target<T>(cpu, i));
    }

    static void Call<T>(Cpu cpu, Insn* i) where T : unmanaged => CallTo<T>(cpu, i, Target<T>(cpu, i));
    static void CallReg<T>(Cpu cpu, Insn* i) where T
        : unmanaged => CallTo<T>(cpu, i, Width.Zero(cpu.GetReg<T>(i->Reg0)));
    static void CallMem<T>(Cpu cpu, Insn* i) where T : unmanaged => CallTo<T>(cpu, i, Width.Zero(cpu.Load<T>(i)));

    /// <summary>A bad target is found before the return address is pushed.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void CallTo<T>(Cpu cpu, Insn* i, ulong target) where T : unmanaged
    {
        ulong next = cpu.State->Rip + i->Length;
        if (sizeof(T) == 8)
        {
            if (!cpu.IsCanonical(target)) throw cpu.Gp();
            cpu.Push64(next);
        }
        else
        {
            if (target > cpu.State->Cs.Limit && !cpu.Is64Bit) throw cpu.Gp();
            cpu.Push(Width.Narrow<T>(next));
        }
        cpu.JumpTo(target);
    }

    static void Return64(Cpu cpu, Insn* i)
    {
        cpu.JumpTo(cpu.Top64());
        cpu.Rsp += 8;
    }

    /// <summary>The immediate is what else to release, 0 without one.</summary>
    static void Return<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        cpu.JumpTo(Width.Zero(cpu.Peek<T>()));
        cpu.Drop((ulong)sizeof(T) + i->Immediate);
    }

    /// <summary>Counter of the address size TCount; the jump may fault, so it comes before the count.</summary>
    static void Loop<TCount, T>(Cpu cpu, Insn* i) where TCount : unmanaged where T
        : unmanaged => LoopWhile<TCount, T>(cpu, i, true);
    static void LoopE<TCount, T>(Cpu cpu, Insn* i) where TCount : unmanaged where T
        : unmanaged => LoopWhile<TCount, T>(cpu, i, cpu.Zero);
    static void LoopNe<TCount, T>(Cpu cpu, Insn* i) where TCount : unmanaged where T
        : unmanaged => LoopWhile<TCount, T>(cpu, i, !cpu.Zero);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void LoopWhile<TCount, T>(Cpu cpu, Insn* i, bool condition) where TCount : unmanaged where T : unmanaged
    {
        ulong count = Width.Cut<TCount>(cpu.Rcx - 1);
        if (count != 0 && condition) cpu.JumpTo(Target<T>(cpu, i));
        cpu.SetReg(1, Width.Narrow<TCount>(count));
    }

    static void JumpIfCountZero<TCount, T>(Cpu cpu, Insn* i) where TCount : unmanaged where T : unmanaged
    {
        if (Width.Cut<TCount>(cpu.Rcx) == 0) cpu.JumpTo(Target<T>(cpu, i));
    }

    static Handler SelectJump(in Instruction x, Insn* i)
    {
        switch (x.Op0Kind)
        {
            case OpKind.Register: return Size(in x)
                switch { 2 => &JumpReg<ushort>, 4 => &JumpReg<uint>, _ => &JumpReg<ulong> };
            case OpKind.Memory:
                if (x.Code is not (Code.Jmp_rm16 or Code.Jmp_rm32 or Code.Jmp_rm64)) return null;
                return Size(in x) switch { 2 => &JumpMem<ushort>, 4 => &JumpMem<uint>, _ => &JumpMem<ulong> };
            default: return BranchSize(in x, i)
                switch { 0 => null, 2 => &Jump<ushort>, 4 => &Jump<uint>, _ => &Jump<ulong> };
        }
    }

    static Handler SelectCall(in Instruction x, Insn* i)
    {
        switch (x.Op0Kind)
        {
            case OpKind.Register: return Size(in x)
                switch { 2 => &CallReg<ushort>, 4 => &CallReg<uint>, _ => &CallReg<ulong> };
            case OpKind.Memory:
                if (x.Code is not (Code.Call_rm16 or Code.Call_rm32 or Code.Call_rm64)) return null;
                return Size(in x) switch { 2 => &CallMem<ushort>, 4 => &CallMem<uint>, _ => &CallMem<ulong> };
            default: return BranchSize(in x, i)
                switch { 0 => null, 2 => &Call<ushort>, 4 => &Call<uint>, _ => &Call<ulong> };
        }
    }

    static Handler SelectJcc<TIf>(in Instruction x, Insn* i) where TIf : struct, ICondition =>
        BranchSize(in x, i) switch { 2 => &JumpIf<TIf, ushort>, 4 => &JumpIf<TIf, uint>, _ => &JumpIf<TIf, ulong> };

    static Handler SelectReturn(in Instruction x, Insn* i)
    {
        i->Immediate = x.OpCount > 0 ? x.Immediate16 : 0u;
        return x.Code switch
        {
            Code.Retnw or Code.Retnw_imm16 => &Return<ushort>,
            Code.Retnd or Code.Retnd_imm16 => &Return<uint>,
            Code.Retnq => &Return64,
            _ => &Return<ulong>,
        };
    }

    static Handler SelectLoop(in Instruction x, Insn* i)
    {
        BranchSize(in x, i);
        return x.Code switch
        {
            Code.Loop_rel8_16_CX => &Loop<ushort, ushort>,
            Code.Loop_rel8_32_CX => &Loop<ushort, uint>,
            Code.Loop_rel8_16_ECX => &Loop<uint, ushort>,
            Code.Loop_rel8_32_ECX => &Loop<uint, uint>,
            Code.Loop_rel8_64_ECX => &Loop<uint, ulong>,
            Code.Loop_rel8_16_RCX => &Loop<ulong, ushort>,
            Code.Loop_rel8_64_RCX => &Loop<ulong, ulong>,
            Code.Loope_rel8_16_CX => &LoopE<ushort, ushort>,
            Code.Loope_rel8_32_CX => &LoopE<ushort, uint>,
            Code.Loope_rel8_16_ECX => &LoopE<uint, ushort>,
            Code.Loope_rel8_32_ECX => &LoopE<uint, uint>,
            Code.Loope_rel8_64_ECX => &LoopE<uint, ulong>,
            Code.Loope_rel8_16_RCX => &LoopE<ulong, ushort>,
            Code.Loope_rel8_64_RCX => &LoopE<ulong, ulong>,
            Code.Loopne_rel8_16_CX => &LoopNe<ushort, ushort>,
            Code.Loopne_rel8_32_CX => &LoopNe<ushort, uint>,
            Code.Loopne_rel8_16_ECX => &LoopNe<uint, ushort>,
            Code.Loopne_rel8_32_ECX => &LoopNe<uint, uint>,
            Code.Loopne_rel8_64_ECX => &LoopNe<uint, ulong>,
            Code.Loopne_rel8_16_RCX => &LoopNe<ulong, ushort>,
            Code.Loopne_rel8_64_RCX => &LoopNe<ulong, ulong>,
            Code.Jcxz_rel8_16 => &JumpIfCountZero<ushort, ushort>,
            Code.Jcxz_rel8_32 => &JumpIfCountZero<ushort, uint>,
            Code.Jecxz_rel8_16 => &JumpIfCountZero<uint, ushort>,
            Code.Jecxz_rel8_32 => &JumpIfCountZero<uint, uint>,
            Code.Jecxz_rel8_64 => &JumpIfCountZero<uint, ulong>,
            Code.Jrcxz_rel8_16 => &JumpIfCountZero<ulong, ushort>,
            _ => &JumpIfCountZero<ulong, ulong>,
        };
    }

    /// <summary>Size of a relative branch's target, 0 if it is none; sets <see cref="Insn.Extra"/>.</summary>
    static int BranchSize(in Instruction x, Insn* i)
    {
        int size = x.Op0Kind switch { OpKind.NearBranch16 => 2, OpKind.NearBranch32 => 4, OpKind.NearBranch64 => 8,
            _ => 0 };
        if (size != 0) i->Extra = i->Immediate + i->Length;        // a far one's selector stays
        return size;
    }
}
