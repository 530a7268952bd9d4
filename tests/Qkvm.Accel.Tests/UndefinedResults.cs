using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>What instructions leave undefined: Intel SDM vol. 2 and AMD APM vol. 3 and 5, "Flags Affected" and
/// "Operation" of each. What either maker leaves undefined is so here. Judges do not compare it, and fuzzers let
/// nothing read it.</summary>
/// <remarks>Processors of one maker mostly agree on what is undefined, those of two do not. On the software CPU:
/// docs/decisions.md.</remarks>
static class UndefinedResults
{
    const ulong All = Rflags.Arithmetic;

    /// <summary>C0 to C3 of the x87's status word.</summary>
    public const ushort Conditions = C0 | C1 | C2 | C3;
    const ushort C0 = 0x100, C1 = 0x200, C2 = 0x400, C3 = 0x4000;

    /// <summary>Of the arithmetic flags.</summary>
    /// <param name="count">Of shifts: as the processor masks it.</param>
    public static ulong Flags(in Instruction x, int count, int bits) => x.Mnemonic switch
    {
        Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Test => Rflags.Af,
        Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr => ShiftedOut(count) | (count >= bits ? Rflags.Cf : 0),
        Mnemonic.Sar => ShiftedOut(count),
        Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr => count > 1 ? Rflags.Of : 0,
        Mnemonic.Shld or Mnemonic.Shrd => count > bits ? All : ShiftedOut(count),
        Mnemonic.Mul or Mnemonic.Imul => Rflags.Sf | Rflags.Zf | Rflags.Af | Rflags.Pf,
        Mnemonic.Div or Mnemonic.Idiv => All,
        // ZF is unaffected, says Intel; AMD's processors do not touch it either.
        Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc => Rflags.Of | Rflags.Sf | Rflags.Af | Rflags.Pf,
        Mnemonic.Bsf or Mnemonic.Bsr => All & ~Rflags.Zf,
        Mnemonic.Tzcnt or Mnemonic.Lzcnt => Rflags.Of | Rflags.Sf | Rflags.Af | Rflags.Pf,
        Mnemonic.Andn or Mnemonic.Blsi or Mnemonic.Blsmsk or Mnemonic.Blsr or Mnemonic.Bzhi => Rflags.Af | Rflags.Pf,
        Mnemonic.Bextr => Rflags.Af | Rflags.Sf | Rflags.Pf,
        Mnemonic.Daa or Mnemonic.Das => Rflags.Of,
        Mnemonic.Aaa or Mnemonic.Aas => Rflags.Of | Rflags.Sf | Rflags.Zf | Rflags.Pf,
        Mnemonic.Aam or Mnemonic.Aad => Rflags.Of | Rflags.Af | Rflags.Cf,
        _ => 0,
    };

    /// <summary>Whether the first operand is.</summary>
    /// <param name="isZero">ZF afterwards, which scans for a bit set if there is none.</param>
    public static bool IsResult(in Instruction x, int count, int bits, bool isZero) => x.Mnemonic switch
    {
        Mnemonic.Shld or Mnemonic.Shrd => count > bits,
        // AMD's processors, and newer ones of Intel's by their manual, leave it alone; older ones clear its upper half.
        Mnemonic.Bsf or Mnemonic.Bsr => isZero,
        Mnemonic.Bswap => bits == 16,
        _ => false,
    };

    /// <summary>Of C0 to C3 in the x87's status word. Intel SDM vol. 1, table 8-1, and vol. 2.</summary>
    public static ushort X87(in Instruction x) => x.Mnemonic switch
    {
        _ when !IsX87(x) => 0,
        Mnemonic.Fcom or Mnemonic.Fcomp or Mnemonic.Fcompp or Mnemonic.Fucom or Mnemonic.Fucomp or Mnemonic.Fucompp
            or Mnemonic.Ficom
            or Mnemonic.Ficomp or Mnemonic.Ftst or Mnemonic.Fxam or Mnemonic.Fninit => 0,
        // These say nothing where the operand is invalid.
        Mnemonic.Fprem or Mnemonic.Fprem1 or Mnemonic.Fsin or Mnemonic.Fcos or Mnemonic.Fsincos or Mnemonic.Fptan =>
            Conditions,
        Mnemonic.Fnclex or Mnemonic.Fldcw or Mnemonic.Fnstcw or Mnemonic.Fnstsw or Mnemonic.Ffree or Mnemonic.Ffreep
            or Mnemonic.Fnop
            or Mnemonic.Fneni or Mnemonic.Fndisi or Mnemonic.Fnsetpm or Mnemonic.Frstpm or Mnemonic.Wait => Conditions,
        // C1 says something of the stack's overflow or underflow only; comparisons into EFLAGS clear it, says Intel,
        // AMD's leave it.
        Mnemonic.Fcomi or Mnemonic.Fcomip or Mnemonic.Fucomi or Mnemonic.Fucomip => Conditions,
        Mnemonic.Fcmovb or Mnemonic.Fcmove or Mnemonic.Fcmovbe or Mnemonic.Fcmovu or Mnemonic.Fcmovnb
            or Mnemonic.Fcmovne or Mnemonic.Fcmovnbe
            or Mnemonic.Fcmovnu or Mnemonic.Fxtract => Conditions,
        _ => C0 | C2 | C3,
    };

    /// <summary>A gather with VEX that faults: what of its mask and destination lies above the vector. Intel SDM vol.
    /// 2, VPGATHERDD, clears it before the first element, AMD's processors after the last.</summary>
    /// <param name="from">Bytes from the register's start.</param>
    public static bool MayKeepUpper(in Instruction x, int register, int from) => x.IsVsib
        && x.Code.Encoding() == EncodingKind.VEX && from >= x.Op0Register.GetSize() && from >= x.Op2Register.GetSize()
        && (register == x.Op0Register.GetNumber() || register == x.Op2Register.GetNumber());

    /// <summary>An MMX store that faults may have set TOP to 0 and all tags to valid: Intel's processors have, AMD's
    /// have not.</summary>
    public static bool MayEnterMmx(in Instruction x) =>
        x.Op0Kind is OpKind.Memory or OpKind.MemorySegDI or OpKind.MemorySegEDI or OpKind.MemorySegRDI
        && (x.Op1Register.IsMM() || x.Op2Register.IsMM());

    public static bool IsX87(in Instruction x)
    {
        foreach (CpuidFeature feature in x.Code.CpuidFeatures())
            if (feature is CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU387 or CpuidFeature.FPU287XL_ONLY)
                return true;
        return x.Mnemonic is Mnemonic.Fisttp;
    }

    static ulong ShiftedOut(int count) => count == 0 ? 0 : count == 1 ? Rflags.Af : Rflags.Af | Rflags.Of;
}
