using System.Runtime.InteropServices;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: arrays of one entry a page of the RAM, freed after all vCPUs; who asks for a page has an address in that RAM.
/// <summary>Which bytes of one RAM block any vCPU has decoded: a bitmap for each page that holds code. The flag
/// <see cref="GuestRam.CodePage"/> sends stores and DMA here; only those that hit decoded bytes cost
/// anything.</summary>
/// <remarks>Order: a decoder marks, waits until no other vCPU stores to the page unseen (<see cref="Cpu.MarkCode"/>),
/// then reads; a writer writes, then looks. Dropping clears the marks and then tells every vCPU, so that whatever was
/// decoded before has a notice on its way. At first only what was decoded from the bytes written goes: boot loaders
/// write the number of each interrupt that they call for into the instruction. A page that is written often without
/// being decoded in between loses all, and is data again.</remarks>
sealed unsafe class CodeMap : IDisposable
{
    /// <summary>With more vCPUs, some share a bit: <see cref="TagOf"/>.</summary>
    public const int MostTags = 64;

    public static ulong TagOf(int cpu) => 1UL << cpu % MostTags;

    const int WordsPerPage = GuestRam.PageSize / 64;

    /// <summary>Of a page's bitmap: a word behind its bits counts how often a part was dropped since code was last
    /// decoded there.</summary>
    const int DropsAt = WordsPerPage;
    const int MostParts = 64, LongestPart = 64;

    readonly CodeMaps _owner;
    readonly ulong** _bitmaps;

    /// <summary>By page: vCPUs that may have a write tag, so that their stores go unnoticed.</summary>
    readonly ulong* _tags;

    public CodeMap(CodeMaps owner, GuestRam ram, int index)
    {
        (_owner, Ram, Index) = (owner, ram, index);
        _bitmaps = (ulong**)NativeMemory.AllocZeroed((nuint)(ram.Size >> GuestRam.PageShift), (nuint)sizeof(ulong*));
        _tags = (ulong*)NativeMemory.AllocZeroed((nuint)(ram.Size >> GuestRam.PageShift), sizeof(ulong));
        ram.FlaggedPageWritten += OnFlaggedPageWritten;
    }

    public GuestRam Ram { get; }
    public int Index { get; }

    public byte Flags(byte* host) => Volatile.Read(ref Ram.PageFlags[Page(host)]);

    /// <summary>Before a write tag: true if stores to the page need not be noticed.</summary>
    public bool TryTagWrites(byte* host, int cpu)
    {
        ulong page = Page(host);
        // before the flag is read, as Mark sets that before it reads tags
        Interlocked.Or(ref _tags[page], TagOf(cpu));
        return (Volatile.Read(ref Ram.PageFlags[page]) & (GuestRam.CodePage | GuestRam.WatchedPage)) == 0;
    }

    /// <summary>By the vCPU itself: it has no write tag any more. One that shares its bit cannot know.</summary>
    public void Untagged(byte* host, int cpu)
    {
        if (!_owner.SharesTags) Interlocked.And(ref _tags[Page(host)], ~TagOf(cpu));
    }

    /// <summary>Marks bytes within a page as decoded, before they are read for good.</summary>
    /// <returns>Which vCPUs may have write tags, which they must drop: as <see cref="TagOf"/>.</returns>
    public ulong Mark(byte* host, int length)
    {
        ulong page = Page(host);
        ulong* bitmap = _bitmaps[page];
        if (bitmap == null) bitmap = Allocate(page);
        int from = (int)((nuint)host & GuestRam.PageSize - 1);
        for (int word = from >> 6; word <= from + length - 1 >> 6; word++)
            Interlocked.Or(ref bitmap[word], Bits(from, length, word));
        Volatile.Write(ref bitmap[DropsAt], 0);
        Or(ref Ram.PageFlags[page], GuestRam.CodePage);
        Interlocked.MemoryBarrier();
        return Volatile.Read(ref _tags[page]);
    }

    /// <summary>A vCPU has written bytes within a flagged page. True: decoded code was hit.</summary>
    public bool Written(byte* host, int length)
    {
        Interlocked.MemoryBarrier();
        ulong page = Page(host);
        byte flags = Ram.PageFlags[page];
        if ((flags & GuestRam.WatchedPage) != 0)
        {
            Ram.MarkWritten((ulong)(host - Ram.Pointer), (ulong)length);
            return (flags & GuestRam.CodePage) != 0;
        }
        return (flags & GuestRam.CodePage) != 0 && DropHit(page, (int)((nuint)host & GuestRam.PageSize - 1), length);
    }

    /// <summary>What was decoded from these bytes, if anything was, is forgotten.</summary>
    bool DropHit(ulong page, int from, int length)
    {
        ulong* bitmap = _bitmaps[page];
        if (bitmap == null) return false;
        for (int word = from >> 6; word <= from + length - 1 >> 6; word++)
            if ((Volatile.Read(ref bitmap[word]) & Bits(from, length, word)) != 0)
            {
                if (length <= LongestPart && Interlocked.Increment(ref bitmap[DropsAt]) <= MostParts)
                    DropPart(page, bitmap, from, length);
                else Drop(page);
                return true;
            }
        return false;
    }

    /// <summary>Forgets everything decoded from the page that holds this byte, in every vCPU.</summary>
    public void Drop(byte* host) => Drop(Page(host));

    public void Dispose()
    {
        Ram.FlaggedPageWritten -= OnFlaggedPageWritten;
        for (ulong page = 0; page < Ram.Size >> GuestRam.PageShift; page++) NativeMemory.Free(_bitmaps[page]);
        NativeMemory.Free(_bitmaps);
        NativeMemory.Free(_tags);
    }

    void OnFlaggedPageWritten(GuestRam ram, ulong offset, int length)
    {
        Interlocked.MemoryBarrier();
        ulong page = offset >> GuestRam.PageShift;
        if ((ram.PageFlags[page] & GuestRam.CodePage) != 0)
            DropHit(page, (int)(offset & GuestRam.PageSize - 1), length);
    }

    void Drop(ulong page)
    {
        And(ref Ram.PageFlags[page], unchecked((byte)~GuestRam.CodePage));
        ulong* bitmap = _bitmaps[page];
        if (bitmap != null) for (int i = 0; i <= DropsAt; i++) Interlocked.Exchange(ref bitmap[i], 0);
        _owner.Post(new CodeNotice(CodeNoticeKind.Drop, HostPage(page), Index, 0, GuestRam.PageSize));
    }

    void DropPart(ulong page, ulong* bitmap, int from, int length)
    {
        for (int word = from >> 6; word <= from + length - 1 >> 6; word++)
            Interlocked.And(ref bitmap[word], ~Bits(from, length, word));
        _owner.Post(new CodeNotice(CodeNoticeKind.Drop, HostPage(page), Index, from, length));
    }

    nuint HostPage(ulong page) => (nuint)(Ram.Pointer + (page << GuestRam.PageShift));

    ulong* Allocate(ulong page)
    {
        ulong* made = (ulong*)NativeMemory.AllocZeroed(WordsPerPage + 1, sizeof(ulong));
        nint winner = Interlocked.CompareExchange(ref ((nint*)_bitmaps)[page], (nint)made, 0);
        if (winner == 0) return made;
        NativeMemory.Free(made);
        return (ulong*)winner;
    }

    ulong Page(byte* host) => (ulong)(host - Ram.Pointer) >> GuestRam.PageShift;

    /// <summary>The bits of a range that fall into one word.</summary>
    static ulong Bits(int from, int length, int word)
    {
        int low = Math.Max(from - word * 64, 0), high = Math.Min(from + length - word * 64, 64);
        return ulong.MaxValue >> (64 - (high - low)) << low;
    }

    static void Or(ref byte flags, byte bits)
    {
        byte seen = Volatile.Read(ref flags);
        while ((seen & bits) != bits)
        {
            byte was = Interlocked.CompareExchange(ref flags, (byte)(seen | bits), seen);
            if (was == seen) break;
            seen = was;
        }
    }

    static void And(ref byte flags, byte bits)
    {
        byte seen = Volatile.Read(ref flags);
        while ((seen & bits) != seen)
        {
            byte was = Interlocked.CompareExchange(ref flags, (byte)(seen & bits), seen);
            if (was == seen) break;
            seen = was;
        }
    }
}

enum CodeNoticeKind
{
    /// <summary>Blocks decoded from these bytes of the page are void.</summary>
    Drop,
    /// <summary>The page holds code now: no write tags.</summary>
    Untag,
    /// <summary>The memory tree changed: no translation holds.</summary>
    View,
}

readonly record struct CodeNotice(CodeNoticeKind Kind, nuint HostPage, int Map, int From = 0, int Length = 0);

/// <summary>The code maps of all RAM blocks, and the vCPUs that hear of changes.</summary>
sealed class CodeMaps : IDisposable
{
    readonly Lock _lock = new();
    volatile CodeMap[] _maps = [];
    volatile Cpu[] _cpus = [];

    public CodeMap this[int index] => _maps[index];

    public CodeMap Of(GuestRam ram)
    {
        foreach (CodeMap map in _maps)
            if (map.Ram == ram) return map;
        lock (_lock)
        {
            foreach (CodeMap map in _maps)
                if (map.Ram == ram) return map;
            var made = new CodeMap(this, ram, _maps.Length);
            _maps = [.. _maps, made];
            return made;
        }
    }

    public int CpuCount => _cpus.Length;
    public ReadOnlySpan<Cpu> Cpus => _cpus;

    /// <summary>No guest has set one processor's time stamp counter apart from another's.</summary>
    public bool HaveSameTsc => Array.TrueForAll(_cpus, cpu => cpu.TscOffset == _cpus[0].TscOffset);

    /// <summary>There are so many vCPUs that two have the same tag.</summary>
    public bool SharesTags => _cpus.Length > CodeMap.MostTags;

    /// <summary>Those that may have write tags, but one.</summary>
    public IEnumerable<Cpu> Tagged(ulong tags, Cpu except)
    {
        foreach (Cpu cpu in _cpus)
            if (cpu != except && (CodeMap.TagOf(cpu.Index) & tags) != 0) yield return cpu;
    }

    public void Add(Cpu cpu)
    {
        lock (_lock) _cpus = [.. _cpus, cpu];
    }

    /// <summary>The vCPU with this APIC ID.</summary>
    public Cpu? Find(int apicId) => Array.Find(_cpus, cpu => cpu.Model.ApicId == apicId);

    public void Remove(Cpu cpu)
    {
        lock (_lock) _cpus = Array.FindAll(_cpus, other => other != cpu);
    }

    /// <summary>Tells every vCPU.</summary>
    public void Post(CodeNotice notice)
    {
        foreach (Cpu cpu in _cpus) cpu.Notify(notice);
    }

    public void Dispose()
    {
        foreach (CodeMap map in _maps) map.Dispose();
        _maps = [];
    }
}
