using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

/// <summary>What must be enabled for a family of instructions, and what it does to the upper halves of YMM
/// registers.</summary>
interface IVectorFamily
{
    static abstract void Check(Cpu cpu);

    /// <summary>Writing 128 bits clears the other 128.</summary>
    static abstract bool ClearsUpper { get; }
}

struct SseFamily : IVectorFamily
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Check(Cpu cpu) => cpu.CheckSse();
    public static bool ClearsUpper => false;
}

struct AvxFamily : IVectorFamily
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Check(Cpu cpu) => cpu.CheckAvx();
    public static bool ClearsUpper => true;
}
