using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// Moves of whole registers and of their lowest elements.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    static Handler SelectMove(in Instruction x, Insn* i) =>
        x.Encoding == EncodingKind.VEX ? SelectMove<AvxFamily>(x, i) : SelectMove<SseFamily>(x, i);

    static Handler SelectMove<TFamily>(in Instruction x, Insn* i) where TFamily : struct, IVectorFamily
    {
        switch (x.Mnemonic)
        {
            case Mnemonic.Movups or Mnemonic.Movupd or Mnemonic.Movdqu or Mnemonic.Lddqu
                or Mnemonic.Vmovups or Mnemonic.Vmovupd or Mnemonic.Vmovdqu or Mnemonic.Vlddqu:
                return SelectWhole<TFamily>(x, i, mustAlign: false);
            case Mnemonic.Movaps or Mnemonic.Movapd or Mnemonic.Movdqa or Mnemonic.Movntps or Mnemonic.Movntpd
                or Mnemonic.Movntdq or Mnemonic.Movntdqa
                or Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa or Mnemonic.Vmovntps or Mnemonic.Vmovntpd
                or Mnemonic.Vmovntdq
                or Mnemonic.Vmovntdqa:
                return SelectWhole<TFamily>(x, i, mustAlign: true);
            case Mnemonic.Movd or Mnemonic.Vmovd: return SelectLowest<TFamily, uint>(x, i);
            case Mnemonic.Movq or Mnemonic.Vmovq: return SelectLowest<TFamily, ulong>(x, i);
            case Mnemonic.Movss or Mnemonic.Vmovss: return SelectScalar<TFamily, uint>(x, i);
            case Mnemonic.Movsd or Mnemonic.Vmovsd: return SelectScalar<TFamily, ulong>(x, i);
            case Mnemonic.Movlps or Mnemonic.Movlpd or Mnemonic.Vmovlps or Mnemonic.Vmovlpd:
                return x.Op0Kind == OpKind.Memory ? &StoreLowest<TFamily, ulong> : null;
            case Mnemonic.Vzeroupper: return &ZeroUpper;
            case Mnemonic.Vzeroall: return &ZeroAll;
            default: return null;
        }
    }

    static Handler SelectWhole<TFamily>(in Instruction x, Insn* i, bool mustAlign) where TFamily : struct, IVectorFamily
    {
        if (VectorSize(x) == 32) return SelectWhole<TFamily, Vector256<byte>>(x, mustAlign);
        return SelectWhole<TFamily, Vector128<byte>>(x, mustAlign);
    }

    static Handler SelectWhole<TFamily, T>(in Instruction x, bool mustAlign) where TFamily : struct, IVectorFamily
        where T : unmanaged
    {
        if (x.Op1Kind == OpKind.Memory) return mustAlign ? &LoadAligned<TFamily, T> : &LoadWhole<TFamily, T>;
        if (x.Op0Kind == OpKind.Memory) return mustAlign ? &StoreAligned<TFamily, T> : &StoreWhole<TFamily, T>;
        return &Copy<TFamily, T>;
    }

    /// <summary>MOVD and MOVQ: other elements become zero.</summary>
    static Handler SelectLowest<TFamily, T>(in Instruction x, Insn* i) where TFamily : struct, IVectorFamily where T
        : unmanaged
    {
        if (x.Op0Kind == OpKind.Register && x.Op0Register.IsMM() || x.Op1Kind == OpKind.Register
            && x.Op1Register.IsMM()) return null;
        if (x.Op1Kind == OpKind.Memory) return &LoadLowest<TFamily, T>;
        if (x.Op0Kind == OpKind.Memory) return &StoreLowest<TFamily, T>;
        if (x.Op0Register.IsGPR()) return &LowestToGeneral<TFamily, T>;
        if (x.Op1Register.IsGPR()) return &LowestFromGeneral<TFamily, T>;
        return &CopyLowest<TFamily, T>;
    }

    /// <summary>MOVSS and MOVSD: between registers, other elements are kept or merged; that is left to the
    /// host.</summary>
    static Handler SelectScalar<TFamily, T>(in Instruction x, Insn* i) where TFamily : struct, IVectorFamily where T
        : unmanaged
    {
        if (x.IsStringInstruction) return null;
        if (x.Op1Kind == OpKind.Memory) return &LoadLowest<TFamily, T>;
        if (x.Op0Kind == OpKind.Memory) return &StoreLowest<TFamily, T>;
        return null;
    }

    static void LoadWhole<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        Put<TFamily, T>(cpu.State, i->Reg0, cpu.Load<T>(i));
    }

    static void LoadAligned<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        if (((int)cpu.VectorLinear(i, sizeof(T), write: false) & sizeof(T) - 1) != 0) throw cpu.Gp();
        Put<TFamily, T>(cpu.State, i->Reg0, cpu.Load<T>(i));
    }

    static void StoreWhole<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        cpu.Store(i, Get<T>(cpu.State, i->Reg1));
    }

    static void StoreAligned<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        if (((int)cpu.VectorLinear(i, sizeof(T), write: true) & sizeof(T) - 1) != 0) throw cpu.Gp();
        cpu.Store(i, Get<T>(cpu.State, i->Reg1));
    }

    static void Copy<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        Put<TFamily, T>(cpu.State, i->Reg0, Get<T>(cpu.State, i->Reg1));
    }

    static void LoadLowest<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        Put<TFamily, Vector128<byte>>(cpu.State, i->Reg0, Extend(cpu.Load<T>(i)));
    }

    static void StoreLowest<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        cpu.Store(i, *(T*)Low(cpu.State, i->Reg1));
    }

    static void CopyLowest<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        Put<TFamily, Vector128<byte>>(cpu.State, i->Reg0, Extend(*(T*)Low(cpu.State, i->Reg1)));
    }

    static void LowestToGeneral<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T : unmanaged
    {
        TFamily.Check(cpu);
        cpu.SetReg(i->Reg0, *(T*)Low(cpu.State, i->Reg1));
    }

    static void LowestFromGeneral<TFamily, T>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily where T
        : unmanaged
    {
        TFamily.Check(cpu);
        Put<TFamily, Vector128<byte>>(cpu.State, i->Reg0, Extend(cpu.GetReg<T>(i->Reg1)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static Vector128<byte> Extend<T>(T value) where T : unmanaged =>
        sizeof(T) == 4 ? Vector128.CreateScalar(Unsafe.BitCast<T, uint>(value)).AsByte()
            : Vector128.CreateScalar(Unsafe.BitCast<T, ulong>(value)).AsByte();

    static int RegisterCount(Cpu cpu) => cpu.Is64Bit ? 16 : 8;

    static void ZeroUpper(Cpu cpu, Insn* i)
    {
        cpu.CheckAvx();
        new Span<byte>(High(cpu.State, 0), RegisterCount(cpu) * 16).Clear();
        new Span<byte>(Highest(cpu.State, 0), RegisterCount(cpu) * 32).Clear();
    }

    static void ZeroAll(Cpu cpu, Insn* i)
    {
        ZeroUpper(cpu, i);
        new Span<byte>(Low(cpu.State, 0), RegisterCount(cpu) * 16).Clear();
    }
}
