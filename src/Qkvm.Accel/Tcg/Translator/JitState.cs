using System.Runtime.InteropServices;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: these structures lie in the vCPU's CodeRegion; what they point at is forgotten before it is freed.
/// <summary>What emitted code and the run loop tell each other; follows <see cref="CpuState"/> in the region. Nothing
/// of it is architectural.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct JitState
{
    /// <summary>Not 0: leave emitted code at the next poll. Bits of <see cref="Cpu"/>.</summary>
    public int Attention;

    /// <summary>The guest's arithmetic flags where they are not in EFLAGS: OF in the low byte (0 or 1), then LAHF's
    /// byte.</summary>
    public uint Flags;

    /// <summary>RIP is this plus the instruction's place in its linear page; outside 64-bit mode modulo 4
    /// GiB.</summary>
    public ulong RipBase;

    /// <summary>Why emitted code was left.</summary>
    public ExitRecord* Exit;

    /// <summary>A linear address: the one that missed, or the target of an indirect jump.</summary>
    public ulong ExitValue;

    /// <summary>TLB entries of the current set, for data and for code.</summary>
    public void* Tlb, FetchTlb;

    /// <summary>All sets of the current context.</summary>
    public void* UserTlb, SupervisorTlb, SupervisorAcTlb, UserFetchTlb, SupervisorFetchTlb;

    /// <summary>Ends of the lists of records whose slots hold an address of the lower, of the upper half: 32-bit
    /// addresses.
    /// There is room for all records.</summary>
    public uint* LowerAt, UpperAt;

    /// <summary>By the low bits of a host page's number: 1 if a slot for stores may lead there. Of
    /// <see cref="StorePagesCount"/> bytes.</summary>
    public byte* StorePages;
    public const int StorePagesCount = 1 << 16;

    /// <summary>Where the trampoline goes.</summary>
    public ulong Entry;

    /// <summary>A register put aside for a moment.</summary>
    public ulong Saved0, Saved1, Saved2;

    /// <summary>The guest's vector registers are in the host's: 1 as far as AVX knows them, 2 all, mask registers too.
    /// Of the x87 registers: 1.</summary>
    public byte VectorsLoaded, X87Loaded;

    /// <summary>1: YMM registers move with the XMM registers, 2: ZMM registers, for their upper halves are not
    /// 0.</summary>
    public byte Wide;

    /// <summary>0: the upper 256 bits of ZMM0 to 15 are all 0; mask registers and ZMM16 to 31 are.</summary>
    public byte UppersInUse, MasksInUse;

    /// <summary>1: an interrupt waits for IF.</summary>
    public byte InterruptWaits;

    /// <summary>1: emitted code has changed the privilege or RFLAGS.AC.</summary>
    public byte ModeStale;
    public uint HostMxcsr;

    /// <summary>PAUSE instructions until the host is told that this vCPU waits for another.</summary>
    public int PausesLeft;
    public const int PausesPerYield = 128;

    /// <summary>Checks that failed and whose page was found in the TLB.</summary>
    public ulong FastMisses;

    /// <summary>Of a repeated string instruction: registers put aside, what is left of its count, where its source is
    /// in host memory.</summary>
    public ulong StringRax, StringRcx, StringRest, StringSource;

    /// <summary>x87 state on its way, for FXSAVE and FXRSTOR: aligned to 16 bytes.</summary>
    public byte* X87Area;
}

/// <summary>Tag and addend of one site: an access hits if its linear address lies in the page <see cref="Tag"/>, and
/// its host address is the linear one plus <see cref="Addend"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
struct Slot
{
    /// <summary>No linear address is in such a page: it lies in no canonical half.</summary>
    public static ulong Empty => NoAddress.Upper;
    public ulong Tag;
    public ulong Addend;

    /// <summary>Tag and addend together: the page in host memory.</summary>
    public ulong Page;
}

enum ExitKind : byte
{
    /// <summary>A direct jump whose target is not linked.</summary>
    Direct,
    /// <summary>A direct jump to another page: <see cref="ExitRecord.Slot"/> says for which linear page it
    /// holds.</summary>
    CrossPage,
    /// <summary>RIP is <see cref="JitState.ExitValue"/>.</summary>
    Indirect,
    /// <summary>Likewise, where flags have been kept in EFLAGS.</summary>
    Return,
    /// <summary>The instruction is for the interpreter.</summary>
    Interpret,
    /// <summary>RDTSC, RDTSCP: goes on at <see cref="ExitRecord.Host"/>.</summary>
    ReadTsc, ReadTscAux,
    /// <summary>A memory check failed for <see cref="JitState.ExitValue"/>.</summary>
    Miss,
    /// <summary>An offset may lie beyond the limit of its segment.</summary>
    Limit,
    /// <summary>A string instruction found no entry in the TLB for <see cref="JitState.ExitValue"/>.</summary>
    StringMiss,
    /// <summary>Somebody calls.</summary>
    Poll,
    /// <summary>The guest spins: another vCPU may need the host's processor. Goes on at
    /// <see cref="ExitRecord.Host"/>.</summary>
    Yield,
    /// <summary>The block's code has changed.</summary>
    Stale,
    /// <summary>x87 registers are wanted in the host's.</summary>
    LoadX87,
    /// <summary>The instruction goes on in a page that may not be the one it was translated from.</summary>
    SecondPage,
}

/// <summary>One way out of emitted code. RIP is JitState.RipBase + <see cref="Offset"/>. What follows the first fields
/// is there for some kinds only: <see cref="SizeOf"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct ExitRecord
{
    public ExitKind Kind;
    public byte IsWrite;

    /// <summary>Not 0: the check stands for one access, of the instruction it precedes. <see cref="FaultsInside"/>: a
    /// page fault may name another byte of it than the first.</summary>
    public byte IsSimple;
    public const byte FaultsInside = 2;

    /// <summary>The target is entered with flags in memory.</summary>
    public byte FlagsInMemory;

    /// <summary>In which lists of filled slots this one is: 1 lower, 2 upper.</summary>
    public byte Listed;

    /// <summary>How often a check failed and its page was found in the TLB; at <see cref="MostMisses"/> somebody asks
    /// why.</summary>
    public byte Misses;
    public const byte MostMisses = 255;

    /// <summary>Of an access that misses: the highest offset in a page at which the access fits.</summary>
    public ushort Limit;

    /// <summary>In the page; of jumps: the target's, which may lie outside.</summary>
    public int Offset;

    /// <summary>Host address to go on at (misses), or of the 32-bit displacement to patch (jumps); of indirect jumps,
    /// what undoes their change of RSP.</summary>
    public uint Host;

    /// <summary>Of a miss: where the fast look-up goes if it fails, first the way out, later a translation without
    /// groups. Of what reaches another page: where to go on there.</summary>
    public ulong Target;

    /// <summary>Of misses and of what reaches another page. A block's slots lie together, apart from all that runs
    /// seldom.</summary>
    public Slot* Slot;

    /// <summary>Of misses, and of an instruction that goes on in another page.</summary>
    public Translation* Owner;

    /// <summary>Of what reaches another page: that host page, 0 until it is known.</summary>
    public ulong HostPage;

    /// <summary>Of instructions for the interpreter that end a block: shares its place with
    /// <see cref="Target"/>.</summary>
    public static Insn** InsnOf(ExitRecord* record) => (Insn**)&record->Target;

    public static int SizeOf(ExitKind kind)
    {
        ExitRecord record;
        return (int)(kind switch
        {
            ExitKind.Interpret => (byte*)&record.Slot - (byte*)&record,
            ExitKind.Miss => (byte*)&record.HostPage - (byte*)&record,
            ExitKind.CrossPage or ExitKind.SecondPage => sizeof(ExitRecord),
            _ => (byte*)&record.Target - (byte*)&record,
        });
    }
}

/// <summary>A translated run of guest instructions, entered at its start only.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct Translation
{
    // As ExitRecord begins: a block is the record of its own way out when it is void.
    public ExitKind Kind;
    public byte LiveFlags, LiveAfter;
    public bool IsStale;
    public uint Key;

    /// <summary>At the same place as ExitRecord's.</summary>
    public int Offset;

    /// <summary>Executable address.</summary>
    public uint Entry;

    /// <summary>As <see cref="JitState.RipBase"/>, of blocks whose place in CS is fixed; else 0.</summary>
    public uint RipBase;

    /// <summary>The bytes of the page that it was made from, those looked at for flags included.</summary>
    public ushort From, To;

    /// <summary>The first instruction in host memory: with <see cref="Key"/> what names the block.</summary>
    public byte* Host;
    public Translation* NextInBucket, NextInPage;

    /// <summary>The host page that the instruction goes on in; 0: none.</summary>
    public nuint SecondPage;
}
