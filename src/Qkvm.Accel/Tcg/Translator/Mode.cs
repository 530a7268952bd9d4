using System.Runtime.InteropServices;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: entries point at translations, which are emptied before translations are freed.
/// <summary>What of the processor's state is built into translated code. Blocks of different modes never
/// meet.</summary>
sealed unsafe class Mode
{
    /// <summary>2: 16-bit code, 4: 32-bit code, 8: 64-bit code.</summary>
    public required int CodeSize;

    /// <summary>Of CS: its base and the last offset in it. In 64-bit code there is neither.</summary>
    public required uint CodeBase, CodeLimit;

    /// <summary>Number among the vCPU's modes: part of each block's key.</summary>
    public required int Number;

    /// <summary>SSE and x87 instructions fault neither by CR0 and CR4 nor by unmasked exceptions; AVX
    /// likewise.</summary>
    public required bool HasSse, HasAvx, HasX87;

    /// <summary>AVX-512 likewise.</summary>
    public bool HasAvx512 => (Bits & Cpu.ModeAvx512) != 0;

    /// <summary>Instructions of this form on vector registers can be translated.</summary>
    public bool Runs(OpInfo info) => info.IsAvx512 ? HasAvx512 : info.IsVex ? HasAvx : HasSse;

    /// <summary>From linear addresses to entries.</summary>
    public required JumpEntry* Jumps;

    /// <summary>Likewise, for look-ups that keep flags: <see cref="ReturnEntry"/> × <see cref="ReturnEntry.Count"/>.
    /// Null: not here.</summary>
    public required ReturnEntry* Returns;

    /// <summary>A power of two; few where many code segments may each have a mode of their own.</summary>
    public required int JumpCount;

    /// <summary>What else there is, as <see cref="Cpu"/> computes it.</summary>
    public required ulong Bits;

    public bool IsUser => (Bits & Cpu.ModeUser) != 0;

    /// <summary>CPL 0.</summary>
    public bool IsInnermost => (Bits & (Cpu.ModeUser | Cpu.ModeMiddle)) == 0;
    public bool HasSystemCall => (Bits & Cpu.ModeSystemCall) != 0;
    /// <summary>RDFSBASE and its like exist.</summary>
    public bool HasBases => (Bits & Cpu.ModeBases) != 0;
    public bool HasFiveLevels => (Bits & Cpu.ModeFiveLevels) != 0;
    /// <summary>PAUSE or PUSHF may be what the host wants to see.</summary>
    public bool HasIntercepts => (Bits & Cpu.ModeIntercepts) != 0;
    public bool GoesDown => (Bits & Cpu.ModeDown) != 0;
    public bool Is64 => CodeSize == 8;

    /// <summary>RIP is not the linear address, or must stay below a limit. The place of each block in CS is fixed
    /// then.</summary>
    public bool IsSegmented => CodeSize == 2 || CodeBase != 0 || CodeLimit != uint.MaxValue;

    /// <summary>Real-address or virtual-8086 mode: loading a segment register changes its base only, so whether bases
    /// are 0 is no part of the mode.</summary>
    public bool IsReal => (Bits & Cpu.ModeReal) != 0;

    /// <summary>Bytes of the stack pointer in use.</summary>
    public int StackSize => Is64 ? 8 : (Bits & Cpu.ModeSmallStack) != 0 ? 2 : 4;
    public bool HasStack => CanAccess(Seg.Ss);
    public bool CanAccess(int segment) => BoundOf(segment) != Bound.Closed;
    public bool HasBase(int segment) => Is64 ? segment >= Seg.Fs : (Bits >> Cpu.ModeFlat + segment & 1) == 0;

    public Bound BoundOf(int segment) => Is64 || (Bits >> Cpu.ModeOpen + segment & 1) != 0 ? Bound.None
        : (Bits >> Cpu.ModeWord + segment & 1) != 0 ? Bound.Word
        : (Bits >> Cpu.ModeLimited + segment & 1) != 0 ? Bound.Limit : Bound.Closed;
}

/// <summary>What holds accesses through a segment register.</summary>
enum Bound : byte
{
    /// <summary>Nothing: no limit, and both reads and writes are permitted.</summary>
    None,
    /// <summary>The limit is FFFFh, as in real-address mode.</summary>
    Word,
    /// <summary>Some limit.</summary>
    Limit,
    /// <summary>Rights, or a segment that grows downwards: for the interpreter.</summary>
    Closed,
}

/// <summary>Where an indirect jump to a linear address goes with flags in EFLAGS. What compares must change none, so it
/// adds and looks for 0.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct ReturnEntry
{
    /// <summary>As <see cref="Emitter.IndexOf13Bits"/> has it.</summary>
    public const int Count = 1 << 13;

    /// <summary>From an index of 8 bytes each to one of entries.</summary>
    public const int IndexShift = 2;

    /// <summary>0 minus the address.</summary>
    public ulong Negated;

    public ulong Page;

    /// <summary>A piece of code of this entry's own that sets <see cref="JitState.RipBase"/> and goes to the block: a
    /// number there, and none loaded from here, keeps one return from waiting for another.</summary>
    public ulong Code;

    /// <summary>This entry's own.</summary>
    public ulong Index;

    /// <summary>It matches nothing whose look-up leads here.</summary>
    public void Clear() => Negated = 0 - (Index ^ 1);

    public static uint IndexOf(ulong target) => (uint)target & Count - 1;
}

/// <summary>Where an indirect jump to a linear address goes.</summary>
unsafe struct JumpEntry
{
    public const int Count = 1 << 14, FewCount = 1 << 10;

    /// <summary>No instruction is there.</summary>
    public static ulong Empty => NoAddress.Upper;

    /// <summary>Nor there, but the entry is on a half's list.</summary>
    public static ulong NoneLower => NoAddress.Lower;
    public static ulong NoneUpper => NoAddress.OtherUpper;
    public ulong Target;
    public ulong Code;

    public static uint IndexOf(ulong target, int count) => ((uint)target ^ (uint)target >> 12) & (uint)count - 1;
}
