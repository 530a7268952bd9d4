using Qkvm.Accel.Tcg.Interpreter;

namespace Qkvm.Accel.Tcg.Translator;

/// <summary>What of the processor's state is built into translated code. Blocks of different modes never meet.</summary>
sealed unsafe class Mode
{
    /// <summary>4: 32-bit code, 8: 64-bit code.</summary>
    public required int CodeSize;

    /// <summary>Number among the vCPU's modes: part of each block's key.</summary>
    public required int Number;

    /// <summary>SSE and x87 instructions fault neither by CR0 and CR4 nor by unmasked exceptions; AVX likewise.</summary>
    public required bool HasSse, HasAvx, HasX87;

    /// <summary>AVX-512 likewise.</summary>
    public bool HasAvx512 => (Bits & Cpu.ModeAvx512) != 0;

    /// <summary>Instructions of this form on vector registers can be translated.</summary>
    public bool Runs(OpInfo info) => info.IsAvx512 ? HasAvx512 : info.IsVex ? HasAvx : HasSse;

    /// <summary>For 32-bit code, by segment: readable, writable and without a limit; with base 0.</summary>
    public required byte OpenSegments, FlatSegments;

    /// <summary>The stack is 32 bits wide, open and flat; in 64-bit code always.</summary>
    public required bool HasStack;

    /// <summary>From linear addresses to entries: <see cref="JumpEntry"/> × <see cref="JumpEntry.Count"/>.</summary>
    public required JumpEntry* Jumps;

    /// <summary>All of this, as <see cref="Cpu"/> computes it.</summary>
    public required uint Bits;

    public bool IsUser => (Bits & Cpu.ModeUser) != 0;
    public bool HasSystemCall => (Bits & Cpu.ModeSystemCall) != 0;
    public bool HasFiveLevels => (Bits & Cpu.ModeFiveLevels) != 0;
    public bool Is64 => CodeSize == 8;
    public bool IsOpen(int segment) => Is64 || (OpenSegments >> segment & 1) != 0;
    public bool HasBase(int segment) => Is64 ? segment >= Seg.Fs : (FlatSegments >> segment & 1) == 0;
}

/// <summary>Where an indirect jump to a linear address goes.</summary>
unsafe struct JumpEntry
{
    public const int Count = 1 << 14;

    /// <summary>No instruction is there.</summary>
    public const ulong Empty = 1UL << 63;

    /// <summary>Nor there, but the entry is on a half's list.</summary>
    public const ulong NoneLower = 1UL << 62, NoneUpper = 1UL << 63 | 1;
    public ulong Target;
    public ulong Code;

    public static uint IndexOf(ulong target) => ((uint)target ^ (uint)target >> 12) & Count - 1;
}
