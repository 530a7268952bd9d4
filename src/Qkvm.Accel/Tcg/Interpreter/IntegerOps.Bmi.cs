using System.Numerics;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>An operation of BMI1 or BMI2 on two sources. Each sets the flags it defines; PF and AF are
/// undefined.</summary>
interface IBmi
{
    static abstract unsafe ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged;
}

/// <summary>BMI1 and BMI2: ANDN BEXTR BLSI BLSMSK BLSR BZHI MULX PDEP PEXT RORX SARX SHLX SHRX. Being VEX-encoded they
/// are invalid in real and virtual-8086 mode.</summary>
static unsafe partial class IntegerOps
{
    readonly struct Andn : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged => Flagged<T>(s, ~a & b, false);
    }

    readonly struct Bextr : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            int start = (int)b & 0xFF, length = (int)(b >> 8) & 0xFF;
            ulong field = start >= Width.Bits<T>() ? 0 : a >> start;
            return Flagged<T>(s, length >= 64 ? field : field & ((1UL << length) - 1), false);
        }
    }

    readonly struct Blsi : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T
            : unmanaged => Flagged<T>(s, b & (0 - b), b != 0);
    }

    readonly struct Blsmsk : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T
            : unmanaged => Flagged<T>(s, b ^ (b - 1), b == 0);
    }

    readonly struct Blsr : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T
            : unmanaged => Flagged<T>(s, b & (b - 1), b == 0);
    }

    readonly struct Bzhi : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            int from = (int)b & 0xFF;
            bool beyond = from >= Width.Bits<T>();
            return Flagged<T>(s, beyond ? a : a & ((1UL << from) - 1), beyond);
        }
    }

    /// <summary>Bit by bit: .NET's own intrinsic exists only where code is compiled on the machine it runs
    /// on.</summary>
    readonly struct Pdep : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = 0;
            for (; b != 0; b &= b - 1, a >>= 1) result |= (ulong)-(long)(a & 1) & b & (ulong)-(long)b;
            return result;
        }
    }

    readonly struct Pext : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged
        {
            ulong result = 0;
            for (int i = 0; b != 0; b &= b - 1, i++) result |= (a >> BitOperations.TrailingZeroCount(b) & 1) << i;
            return result;
        }
    }

    readonly struct Sarx : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged =>
            (ulong)((long)Width.Signed<T>(a) >> ((int)b & CountMask<T>()));
    }

    readonly struct Shlx : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T
            : unmanaged => a << ((int)b & CountMask<T>());
    }

    readonly struct Shrx : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T
            : unmanaged => a >> ((int)b & CountMask<T>());
    }

    readonly struct Rorx : IBmi
    {
        public static ulong Apply<T>(CpuState* s, ulong a, ulong b) where T : unmanaged =>
            sizeof(T) == 8 ? ulong.RotateRight(a, (int)b) : uint.RotateRight((uint)a, (int)b);
    }

    static ulong Flagged<T>(CpuState* s, ulong result, bool carry) where T : unmanaged
    {
        LazyFlags.Result<T>(s, result, carry, false);
        return result;
    }

    static void RequireVex(Cpu cpu)
    {
        if (!cpu.IsProtected || cpu.IsVirtual8086) throw cpu.Ud();
    }

    /// <summary>Destination, first source, second source or immediate; the memory operand may be either
    /// source.</summary>
    static void Bmi3<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IBmi where T : unmanaged
    {
        RequireVex(cpu);
        ulong a = Width.Zero(Operand<T>(cpu, i, 1));
        ulong b = i->MemoryOperand == 2 || i->Reg2 != Insn.NoRegister ? Width.Zero(Operand<T>(cpu, i, 2))
            : i->Immediate;
        cpu.SetReg(i->Reg0, Width.Narrow<T>(TOp.Apply<T>(cpu.State, a, b)));
    }

    /// <summary>Destination and one source.</summary>
    static void BmiOne<TOp, T>(Cpu cpu, Insn* i) where TOp : struct, IBmi where T : unmanaged
    {
        RequireVex(cpu);
        cpu.SetReg(i->Reg0, Width.Narrow<T>(TOp.Apply<T>(cpu.State, 0, Width.Zero(Operand<T>(cpu, i, 1)))));
    }

    /// <summary>High half to the first operand, low half to the second; the high one wins where they are the
    /// same.</summary>
    static void Mulx<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        RequireVex(cpu);
        ulong a = Width.Zero(cpu.GetReg<T>(2)), b = Width.Zero(Operand<T>(cpu, i, 2)), low;
        ulong high = sizeof(T) == 8 ? Math.BigMul(a, b, out low) : (low = a * b) >> 32;
        cpu.SetReg(i->Reg1, Width.Narrow<T>(low));
        cpu.SetReg(i->Reg0, Width.Narrow<T>(high));
    }

    static Handler SelectBmi3<TOp>(in Instruction x) where TOp : struct, IBmi => Size(in x) == 4 ? &Bmi3<TOp, uint>
        : &Bmi3<TOp, ulong>;
    static Handler SelectBmi1<TOp>(in Instruction x) where TOp : struct, IBmi => Size(in x) == 4 ? &BmiOne<TOp, uint>
        : &BmiOne<TOp, ulong>;
    static Handler SelectMulx(in Instruction x) => Size(in x) == 4 ? &Mulx<uint> : &Mulx<ulong>;
}
