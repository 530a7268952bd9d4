using Iced.Intel;
using Qkvm.Accel.Tcg.Interpreter;

namespace Qkvm.Accel.Tests;

/// <summary>The flags that an instruction leaves undefined: Intel SDM vol. 2, "Flags Affected" of each. The oracle's are not
/// compared.</summary>
static class UndefinedFlags
{
    const ulong All = Rflags.Arithmetic;

    /// <summary><paramref name="count"/>: masked count of shifts.</summary>
    public static ulong Of(in Instruction x, int count, int bits) => x.Mnemonic switch
    {
        Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Test => Rflags.Af,
        Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr => ShiftedOut(count) | (count >= bits ? Rflags.Cf : 0),
        Mnemonic.Sar => ShiftedOut(count),
        Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr => count > 1 ? Rflags.Of : 0,
        Mnemonic.Shld or Mnemonic.Shrd => count > bits ? All : ShiftedOut(count),
        Mnemonic.Mul or Mnemonic.Imul => Rflags.Sf | Rflags.Zf | Rflags.Af | Rflags.Pf,
        Mnemonic.Div or Mnemonic.Idiv => All,
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

    static ulong ShiftedOut(int count) => count == 0 ? 0 : count == 1 ? Rflags.Af : Rflags.Af | Rflags.Of;
}
