namespace Qkvm.Accel.Tcg.Thunks;

/// <summary>What an instruction's thunk needs around it.</summary>
[Flags]
enum ThunkTraits : byte
{
    None = 0,

    /// <summary>Computes with floating-point numbers: takes and leaves MXCSR.</summary>
    Mxcsr = 1,

    /// <summary>Returns flags, as LAHF and SETO leave them in AX.</summary>
    WritesFlags = 2,

    /// <summary>Takes EFLAGS.</summary>
    ReadsFlags = 4,

    /// <summary>Writes its memory operand, and never reads it.</summary>
    Stores = 8,

    /// <summary>Has an MMX register: a switch of the x87 registers to MMX comes first.</summary>
    Mmx = 16,

    /// <summary>Encoded with a VEX prefix.</summary>
    Vex = 32,
}

/// <summary>One instruction as a host function.</summary>
/// <param name="Address">Vector instructions: ulong f(op0, op1, op2, op3, memory, mxcsr), all pointers; returns flags.
/// x87: ulong f(FXSAVE area, memory, EFLAGS); returns flags, for <see cref="EFlags"/>.</param>
/// <param name="MemorySize">Bytes of the memory operand, or 0.</param>
readonly record struct Thunk(nint Address, ThunkTraits Traits, byte MemorySize)
{
    /// <summary>Arithmetic flags at their places in EFLAGS.</summary>
    public static ulong EFlags(ulong returned) => (byte)(returned >> 8) | (returned & 1) << 11;
}
