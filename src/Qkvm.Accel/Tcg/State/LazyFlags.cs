using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: the state is the vCPU's own, which outlives every instruction.
/// <summary>How operations leave their flags in <see cref="CpuState"/>.</summary>
static unsafe class LazyFlags
{
    public const ulong CarryBit = 1UL << 63, OverflowBit = 1UL << 62, AdjustBit = 8;

    /// <summary>Of a + b (+ carry) = result; operands zero-extended.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sum<T>(CpuState* s, ulong a, ulong b, ulong result) where T : unmanaged =>
        Set<T>(s, result, a & b | (a | b) & ~result);

    /// <summary>Of a − b (− borrow) = result; operands zero-extended.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Difference<T>(CpuState* s, ulong a, ulong b, ulong result) where T : unmanaged =>
        Set<T>(s, result, ~a & b | (~a | b) & result);

    /// <summary>CF, OF and AF clear.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Logic<T>(CpuState* s, ulong result) where T : unmanaged
    {
        s->FlagsResult = Width.Signed<T>(result);
        s->FlagsCarries = 0;
        s->FlagsPatch = 0;
    }

    /// <summary>CF and OF given, AF clear.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Result<T>(CpuState* s, ulong result, bool carry, bool overflow) where T : unmanaged
    {
        s->FlagsResult = Width.Signed<T>(result);
        s->FlagsCarries = Carries(carry ? 1UL : 0, overflow ? 1UL : 0);
        s->FlagsPatch = 0;
    }

    /// <summary>The carries that give CF and OF these values, 0 or 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Carries(ulong carry, ulong overflow) => carry << 63 | (carry ^ overflow) << 62;

    /// <summary>CF and OF change, the others stay: what rotates do.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void KeepOthers(CpuState* s, ulong carries) =>
        s->FlagsCarries = s->FlagsCarries & AdjustBit | carries;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static void Set<T>(CpuState* s, ulong result, ulong carries) where T : unmanaged
    {
        s->FlagsResult = Width.Signed<T>(result);
        s->FlagsCarries = sizeof(T) == 8 ? carries : Width.ToTop<T>(carries) | carries & AdjustBit;
        s->FlagsPatch = 0;
    }
}
