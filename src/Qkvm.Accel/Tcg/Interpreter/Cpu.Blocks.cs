using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: instructions lie in the arena until it is emptied, which happens between blocks alone.
/// <summary>The decode cache: blocks of instructions, keyed by the host address of their bytes and the code size. They
/// live in an arena; when it is full all are forgotten.</summary>
public sealed unsafe partial class Cpu
{
    const int ArenaSize = 64 << 20, Buckets = 1 << 16, Slots = 1 << 13, MaxBlockLength = 48, MaxInstruction = 15,
        Transients = 64;

    struct Block
    {
        public Insn* First, End;
        public byte* Host;

        // The block that followed last.
        public ulong NextLinear, NextKey;
        public Block* Next;

        public Block* NextInBucket;
        public CodePage* Page;
        public uint Generation;
        public int Count;

        /// <summary>Bytes of its instructions.</summary>
        public ushort Size;
        public byte CodeSize;

        /// <summary>One instruction over two pages, or outside RAM: looked at anew each time.</summary>
        public bool IsTransient;
        public fixed byte Bytes[16];
    }

    struct CodePage
    {
        /// <summary>Blocks of older generations are void.</summary>
        public uint Generation;
    }

    struct LinearSlot
    {
        public ulong Linear, Key;
        public Block* Block;
    }

    readonly byte* _arena = (byte*)Libc.mmap(null, ArenaSize, Libc.ProtRead | Libc.ProtWrite,
        Libc.MapPrivate | Libc.MapAnonymous | Libc.MapNoReserve, -1, 0);
    readonly Block** _buckets = (Block**)NativeMemory.AllocZeroed(Buckets, (nuint)sizeof(Block*));
    readonly LinearSlot* _slots = (LinearSlot*)NativeMemory.AllocZeroed(Slots, (nuint)sizeof(LinearSlot));
    readonly Block* _transients = (Block*)NativeMemory.AllocZeroed(Transients, (nuint)(sizeof(Block) + sizeof(Insn)));
    /// <summary>Stands before the first block, so that links need no check for null.</summary>
    readonly Block* _none = (Block*)NativeMemory.AllocZeroed((nuint)sizeof(Block));
    readonly Dictionary<nuint, nint> _codePages = [];
    int _arenaUsed;

    /// <summary>Statistics.</summary>
    public int BlocksDecoded { get; private set; }

    /// <summary>Epoch, code size and privilege: what a linear address needs beside itself to name a block.</summary>
    ulong _key;
    int _codeSize = 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    Block* FindBlock(ulong linear)
    {
        LinearSlot* slot = _slots + ((linear ^ linear >> 13) & Slots - 1);
        return slot->Linear == linear && slot->Key == _key ? slot->Block : FindBlockSlowly(linear);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    Block* FindBlockSlowly(ulong linear)
    {
        int set = State->Cpl == 3 ? TlbSet.UserFetch : TlbSet.SupervisorFetch;
        TlbEntry* entry = FillForFetch(linear);
        if (entry->Host == null) return DecodeTransient(linear, set);
        byte* host = entry->Host + (linear & PageMask);
        Block** bucket = _buckets + Hash(host);
        Block* block = *bucket;
        Block** link = bucket;
        for (; block != null; block = *link)
        {
            if (block->Generation != block->Page->Generation) { *link = block->NextInBucket; continue; }
            if (block->Host == host && block->CodeSize == _codeSize) break;
            link = &block->NextInBucket;
        }
        if (block == null) block = Decode(host, linear, _code[Detail(entry)->Map]);
        if (block->IsTransient) return DecodeTransient(linear, set);
        LinearSlot* slot = _slots + ((linear ^ linear >> 13) & Slots - 1);
        *slot = new LinearSlot { Linear = linear, Key = _key, Block = block };
        return block;
    }

    static uint Hash(byte* host) => (uint)((nuint)host * 0x9E3779B97F4A7C15 >> 48) & Buckets - 1;

    /// <summary>Decodes from within one page of RAM. The bytes are marked, then read again: a write in between is seen
    /// either way.</summary>
    Block* Decode(byte* host, ulong linear, CodeMap map)
    {
        byte* bytes = stackalloc byte[MaxBlockLength * MaxInstruction];
        Block* block = Allocate();
        int available = (int)Math.Min(PageSize - (linear & PageMask), MaxBlockLength * MaxInstruction);
        while (true)
        {
            Buffer.MemoryCopy(host, bytes, available, available);
            int length = DecodeInto(block, bytes, available, linear);
            if (length == 0)
            {
                // The first instruction goes on in the next page.
                block->IsTransient = true;
                length = 1;
            }
            MarkCode(map, host, length);
            if (new ReadOnlySpan<byte>(host, length).SequenceEqual(new ReadOnlySpan<byte>(bytes, length))) break;
        }
        block->Host = host;
        block->Page = PageOf((nuint)host & ~(nuint)PageMask);
        block->Generation = block->Page->Generation;
        Block** bucket = _buckets + Hash(host);
        block->NextInBucket = *bucket;
        *bucket = block;
        BlocksDecoded++;
        _arenaUsed += sizeof(Block) + block->Count * sizeof(Insn);
        return block;
    }

    /// <summary>One instruction whose bytes span two pages or lie in registers: fetched at each execution, decoded if
    /// it changed.</summary>
    Block* DecodeTransient(ulong linear, int set)
    {
        byte* bytes = stackalloc byte[16];
        // What lies beyond CS.limit is not fetched.
        int most = _is64Bit ? MaxInstruction : (int)Math.Min(MaxInstruction, (ulong)State->Cs.Limit - State->Rip + 1);
        int first = (int)Math.Min((ulong)most, PageSize - (linear & PageMask));
        ReadPart(linear, bytes, first, set, Seg.Cs);
        Block* block = _transients + (linear >> 12) % Transients;
        int length = block->Count == 0 ? 0 : block->First->Length;
        ulong next = Wrap(linear + (ulong)first);
        if (length > 0 && length <= most && block->CodeSize == _codeSize && block->NextLinear == linear)
        {
            if (length > first) ReadPart(next, bytes + first, length - first, set, Seg.Cs);
            if (new ReadOnlySpan<byte>(block->Bytes, length).SequenceEqual(new ReadOnlySpan<byte>(bytes, length)))
                return block;
        }
        block->First = (Insn*)(_transients + Transients) + (block - _transients);
        length = DecodeInto(block, bytes, first, linear, limit: 1);
        if (length == 0 && first < most)
        {
            ReadPart(next, bytes + first, most - first, set, Seg.Cs);
            length = DecodeInto(block, bytes, most, linear, limit: 1);
        }
        if (length == 0) throw Gp();
        Buffer.MemoryCopy(bytes, block->Bytes, 16, MaxInstruction);
        block->NextLinear = linear;
        block->IsTransient = true;
        return block;
    }

    Block* Allocate()
    {
        if (_arenaUsed + sizeof(Block) + MaxBlockLength * sizeof(Insn) > ArenaSize) ForgetBlocks();
        Block* block = (Block*)(_arena + _arenaUsed);
        *block = default;
        block->First = (Insn*)(block + 1);
        return block;
    }

    void ForgetBlocks()
    {
        new Span<nint>(_buckets, Buckets).Clear();
        _arenaUsed = 0;
        NewEpoch();
    }

    CodePage* PageOf(nuint hostPage)
    {
        if (_codePages.TryGetValue(hostPage, out nint known)) return (CodePage*)known;
        var page = (CodePage*)NativeMemory.AllocZeroed((nuint)sizeof(CodePage));
        _codePages.Add(hostPage, (nint)page);
        return page;
    }

    void NewEpoch()
    {
        _epoch++;
        SetKey();
    }

    void SetKey() =>
        _key = _epoch << 5 | (IsGuest ? 16u : 0u) | (State->Cpl == 3 ? 8u : 0u) | (uint)_codeSize >> 1;
}
