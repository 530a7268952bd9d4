using System.Numerics;
using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>The arithmetic flags: kept as the last result and its carries, read when somebody asks.
/// Intel SDM vol. 1, section 3.4.3.1.</summary>
public sealed unsafe partial class Cpu
{
    const ulong Top = 1UL << 63, NextToTop = 1UL << 62;

    public bool Carry => (long)State->FlagsCarries < 0;
    public bool Zero => State->FlagsResult == 0;
    public bool Sign => (long)(State->FlagsResult ^ State->FlagsPatch) < 0;
    public bool Overflow => (long)(State->FlagsCarries ^ State->FlagsCarries << 1) < 0;
    public bool Adjust => (State->FlagsCarries & 8) != 0;
    public bool Parity => (BitOperations.PopCount((byte)(State->FlagsResult ^ State->FlagsPatch)) & 1) == 0;

    /// <summary>SF ≠ OF.</summary>
    public bool Less =>
        (long)(State->FlagsResult ^ State->FlagsPatch ^ State->FlagsCarries ^ State->FlagsCarries << 1) < 0;

    /// <summary>CF PF AF ZF SF OF at their places in RFLAGS; setting ignores the other bits.</summary>
    public ulong ArithmeticFlags
    {
        get
        {
            ulong carries = State->FlagsCarries, result = State->FlagsResult, shown = result ^ State->FlagsPatch;
            var flags = carries >> 63 | (carries & 8) << 1 | (carries ^ carries << 1) >> 63 << 11 | shown >> 63 << 7;
            flags |= (ulong)(~BitOperations.PopCount((byte)shown) & 1) << 2;
            return result == 0 ? flags | Flag.Zf : flags;
        }
        set
        {
            var carry = value << 63;
            State->FlagsCarries = carry | (carry >> 1 ^ (value >> 11 & 1) << 62) | value >> 1 & 8;
            var sign = value << 56 & Top;
            var zero = (value & Flag.Zf) != 0;
            var odd = ~value >> 2 & 1;
            State->FlagsResult = zero ? 0 : sign | 2 | odd ^ 1;
            State->FlagsPatch = zero ? sign | odd : 0;
        }
    }

    /// <summary>All of RFLAGS.</summary>
    public ulong AllFlags
    {
        get => State->RflagsSystem | ArithmeticFlags | 2;
        set
        {
            State->RflagsSystem = value & ~Flag.Arithmetic | 2;
            ArithmeticFlags = value;
        }
    }

    /// <summary>The condition of Jcc, SETcc and CMOVcc: the low four bits of their opcodes. SDM vol. 1, appendix
    /// B.</summary>
    public bool Condition(int cc)
    {
        var holds = (cc >> 1 & 7) switch
        {
            0 => Overflow,
            1 => Carry,
            2 => Zero,
            3 => Carry || Zero,
            4 => Sign,
            5 => Parity,
            6 => Less,
            _ => Less || Zero,
        };
        return holds != ((cc & 1) != 0);
    }

    /// <summary>Sets CF, keeps the others.</summary>
    public void SetCarry(bool carry)
    {
        ulong old = State->FlagsCarries;
        if ((long)old < 0 != carry) State->FlagsCarries = old ^ (Top | NextToTop);        // both: OF stays
    }

    /// <summary>Sets ZF, keeps the others.</summary>
    public void SetZero(bool zero)
    {
        if (Zero != zero) ArithmeticFlags ^= Flag.Zf;
    }
}
