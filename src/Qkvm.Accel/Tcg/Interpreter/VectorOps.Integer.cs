using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// The integer instructions that string functions and copies consist of.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    static Handler SelectInteger(in Instruction x)
    {
        if (x.Op0Kind == OpKind.Register && x.Op0Register.IsMM() || x.OpCount > 1 && x.Op1Kind == OpKind.Register
            && x.Op1Register.IsMM()) return null;
        return x.Mnemonic switch
        {
            Mnemonic.Pxor or Mnemonic.Xorps or Mnemonic.Xorpd or Mnemonic.Vpxor or Mnemonic.Vxorps or Mnemonic.Vxorpd =>
                Binary<Exclusive>(x),
            Mnemonic.Por or Mnemonic.Orps or Mnemonic.Orpd or Mnemonic.Vpor or Mnemonic.Vorps or Mnemonic.Vorpd =>
                Binary<Either>(x),
            Mnemonic.Pand or Mnemonic.Andps or Mnemonic.Andpd or Mnemonic.Vpand or Mnemonic.Vandps or Mnemonic.Vandpd =>
                Binary<Both>(x),
            Mnemonic.Pandn or Mnemonic.Andnps or Mnemonic.Andnpd or Mnemonic.Vpandn or Mnemonic.Vandnps
                or Mnemonic.Vandnpd => Binary<OnlySecond>(x),
            Mnemonic.Pcmpeqb or Mnemonic.Vpcmpeqb => Binary<EqualBytes>(x),
            Mnemonic.Pcmpeqd or Mnemonic.Vpcmpeqd => Binary<EqualDwords>(x),
            Mnemonic.Pminub or Mnemonic.Vpminub => Binary<LesserBytes>(x),
            Mnemonic.Psubb or Mnemonic.Vpsubb => Binary<SubtractBytes>(x),
            Mnemonic.Paddd or Mnemonic.Vpaddd => Binary<AddDwords>(x),
            Mnemonic.Paddq or Mnemonic.Vpaddq => Binary<AddQwords>(x),
            Mnemonic.Punpcklqdq or Mnemonic.Unpcklpd => Binary<LowQwords>(x),
            Mnemonic.Pmovmskb => &Mask<SseFamily, Vector128<byte>>,
            Mnemonic.Vpmovmskb => x.Op1Register.IsYMM() ? &Mask<AvxFamily, Vector256<byte>>
                : &Mask<AvxFamily, Vector128<byte>>,
            _ => null,
        };
    }

    interface IBinary
    {
        static abstract Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b);
    }

    struct Exclusive : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) => a ^ b; }
    struct Either : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) => a | b; }
    struct Both : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) => a & b; }
    struct OnlySecond : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) => ~a & b; }
    struct EqualBytes
        : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) => Vector128.Equals(a, b); }
    struct EqualDwords
        : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) =>
        Vector128.Equals(a.AsUInt32(), b.AsUInt32()).AsByte(); }
    struct LesserBytes
        : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) => Vector128.Min(a, b); }
    struct SubtractBytes : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) => a - b; }
    struct AddDwords
        : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) =>
        (a.AsUInt32() + b.AsUInt32()).AsByte(); }
    struct AddQwords
        : IBinary { public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) =>
        (a.AsUInt64() + b.AsUInt64()).AsByte(); }

    struct LowQwords : IBinary
    {
        public static Vector128<byte> Of(Vector128<byte> a, Vector128<byte> b) =>
            Vector128.Create(a.AsUInt64().ToScalar(), b.AsUInt64().ToScalar()).AsByte();
    }

    static Handler Binary<TOp>(in Instruction x) where TOp : struct, IBinary
    {
        if (x.Encoding == EncodingKind.Legacy) return x.Op1Kind == OpKind.Memory ? &OnMemory<TOp> : &OnRegisters<TOp>;
        if (x.Op0Register.IsYMM()) return x.Op2Kind == OpKind.Memory ? &WideOnMemory<TOp> : &WideOnRegisters<TOp>;
        return x.Op2Kind == OpKind.Memory ? &VexOnMemory<TOp> : &VexOnRegisters<TOp>;
    }

    static void OnRegisters<TOp>(Cpu cpu, Insn* i) where TOp : struct, IBinary
    {
        cpu.CheckSse();
        Vector128<byte>* to = Low(cpu.State, i->Reg0);
        *to = TOp.Of(*to, *Low(cpu.State, i->Reg1));
    }

    static void OnMemory<TOp>(Cpu cpu, Insn* i) where TOp : struct, IBinary
    {
        cpu.CheckSse();
        if ((cpu.VectorLinear(i, 16, write: false) & 15) != 0 && !TakesMisaligned(cpu)) throw cpu.Gp();
        Vector128<byte>* to = Low(cpu.State, i->Reg0);
        *to = TOp.Of(*to, cpu.Load<Vector128<byte>>(i));
    }

    static void VexOnRegisters<TOp>(Cpu cpu, Insn* i) where TOp : struct, IBinary
    {
        cpu.CheckAvx();
        Put<AvxFamily, Vector128<byte>>(cpu.State, i->Reg0, TOp.Of(*Low(cpu.State, i->Reg1), *Low(cpu.State, i->Reg2)));
    }

    static void VexOnMemory<TOp>(Cpu cpu, Insn* i) where TOp : struct, IBinary
    {
        cpu.CheckAvx();
        Put<AvxFamily,
            Vector128<byte>>(cpu.State, i->Reg0, TOp.Of(*Low(cpu.State, i->Reg1), cpu.Load<Vector128<byte>>(i)));
    }

    static void WideOnRegisters<TOp>(Cpu cpu, Insn* i) where TOp : struct, IBinary
    {
        cpu.CheckAvx();
        CpuState* state = cpu.State;
        *Low(state, i->Reg0) = TOp.Of(*Low(state, i->Reg1), *Low(state, i->Reg2));
        *High(state, i->Reg0) = TOp.Of(*High(state, i->Reg1), *High(state, i->Reg2));
        *Highest(state, i->Reg0) = default;
    }

    static void WideOnMemory<TOp>(Cpu cpu, Insn* i) where TOp : struct, IBinary
    {
        cpu.CheckAvx();
        CpuState* state = cpu.State;
        var memory = cpu.Load<Vector256<byte>>(i);
        *Low(state, i->Reg0) = TOp.Of(*Low(state, i->Reg1), memory.GetLower());
        *High(state, i->Reg0) = TOp.Of(*High(state, i->Reg1), memory.GetUpper());
        *Highest(state, i->Reg0) = default;
    }

    static void Mask<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        uint mask = Low(cpu.State, i->Reg1)->ExtractMostSignificantBits();
        if (sizeof(T) == 32) mask |= High(cpu.State, i->Reg1)->ExtractMostSignificantBits() << 16;
        cpu.State->Gpr[i->Reg0] = mask;
    }
}
