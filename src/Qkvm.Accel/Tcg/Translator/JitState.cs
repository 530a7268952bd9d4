using System.Runtime.InteropServices;

namespace Qkvm.Accel.Tcg.Translator;

/// <summary>What emitted code and the run loop tell each other; follows <see cref="CpuState"/> in the region. Nothing of it is
/// architectural.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct JitState
{
    /// <summary>Not 0: leave emitted code at the next poll. Bits of <see cref="Interpreter.Cpu"/>.</summary>
    public int Attention;

    /// <summary>The guest's arithmetic flags where they are not in EFLAGS: OF in the low byte (0 or 1), then LAHF's byte.</summary>
    public uint Flags;

    /// <summary>RIP without its lowest 12 linear bits: RIP is this plus the instruction's place in its page.</summary>
    public ulong RipBase;

    /// <summary>Why emitted code was left.</summary>
    public ExitRecord* Exit;

    /// <summary>A linear address: the one that missed, or the target of an indirect jump.</summary>
    public ulong ExitValue;

    /// <summary>TLB entries of the current set.</summary>
    public void* Tlb;

    /// <summary>Slots filled since the last flush: 32-bit addresses.</summary>
    public uint* JournalAt, JournalEnd;

    /// <summary>Where the trampoline goes.</summary>
    public ulong Entry;

    /// <summary>A register put aside for a moment.</summary>
    public ulong Saved0, Saved1, Saved2;

    /// <summary>The guest's vector registers are (1) in the host's; the x87 registers likewise.</summary>
    public byte VectorsLoaded, X87Loaded;

    /// <summary>1: YMM registers move with the XMM registers.</summary>
    public byte Wide;

    /// <summary>1: an interrupt waits for IF.</summary>
    public byte InterruptWaits;
    public uint HostMxcsr;

    /// <summary>Statistics.</summary>
    public ulong FastMisses;

    /// <summary>Aligns what follows to 64 bytes.</summary>
    public fixed byte Padding[24];

    /// <summary>x87 state on its way, for XSAVE and XRSTOR.</summary>
    public fixed byte X87Area[1024];
}

/// <summary>Tag and addend of one site: an access hits if its linear address lies in the page <see cref="Tag"/>, and its host address
/// is the linear one plus <see cref="Addend"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
struct Slot
{
    /// <summary>No linear address is in such a page: it lies in no canonical half.</summary>
    public const ulong Empty = 1UL << 63;
    public ulong Tag;
    public ulong Addend;
}

enum ExitKind : byte
{
    /// <summary>A direct jump whose target is not linked.</summary>
    Direct,
    /// <summary>A direct jump to another page: <see cref="ExitRecord.Slot"/> says for which linear page it holds.</summary>
    CrossPage,
    /// <summary>RIP is <see cref="JitState.ExitValue"/>.</summary>
    Indirect,
    /// <summary>The instruction is for the interpreter.</summary>
    Interpret,
    /// <summary>A memory check failed for <see cref="JitState.ExitValue"/>.</summary>
    Miss,
    /// <summary>Somebody calls.</summary>
    Poll,
    /// <summary>The block's code has changed.</summary>
    Stale,
    /// <summary>x87 registers are wanted in the host's.</summary>
    LoadX87,
}

/// <summary>One way out of emitted code. RIP is JitState.RipBase + <see cref="Offset"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct ExitRecord
{
    /// <summary>Of a miss: where the fast look-up goes if it fails, first the way out, later a translation without groups.</summary>
    public ulong Fallback;
    public Slot* Slot;
    public Translation* Owner;

    /// <summary>Of a miss: the highest offset in a page at which the access fits.</summary>
    public uint Limit;

    /// <summary>Host address to go on at (misses), or of the 32-bit displacement to patch (jumps).</summary>
    public uint Host;

    /// <summary>In the page; of jumps: the target's, which may lie outside.</summary>
    public int Offset;
    public ExitKind Kind;
    public byte IsWrite;

    /// <summary>The check stands for one access, of the instruction it precedes.</summary>
    public byte IsSimple;

    /// <summary>The target is entered with flags in memory.</summary>
    public byte FlagsInMemory;

    /// <summary>Of instructions for the interpreter.</summary>
    public Interpreter.Insn* Insn;

    // What followed last.
    public ulong NextRip, NextEpoch;
    public Translation* Next;
    public byte Segment, Size;
}

/// <summary>A translated run of guest instructions, entered at its start only.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct Translation
{
    /// <summary>The first instruction in host memory: with <see cref="Key"/> what names the block.</summary>
    public byte* Host;
    public uint Key;

    /// <summary>Executable address.</summary>
    public uint Entry;
    public Translation* NextInBucket, NextInPage;

    /// <summary>As NextInPage, for the page that the last instruction reaches into.</summary>
    public Translation* NextInSecondPage;

    /// <summary>A way out with nothing but this block's address: what a stale entry jumps to.</summary>
    public uint StaleStub;
    public ushort Offset;
    public byte LiveFlags, LiveAfter;
    public bool IsStale;
}
