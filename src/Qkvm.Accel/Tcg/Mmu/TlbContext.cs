using System.Runtime.InteropServices;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: arrays of EntryCount entries, freed with the context; indices are masked to them.
/// <summary>The translations of one process-context identifier (Intel SDM vol. 3, section 4.10.1), global ones among
/// them. What was filled is kept in a journal, so that a flush touches no more than that.</summary>
sealed unsafe class TlbContext : IDisposable
{
    /// <summary>Of a context that holds nothing.</summary>
    public const int NoIdentifier = -1;
    const int EntryCount = TlbSet.Total, Regions = 2048, LargeShift = 21, GigabyteShift = 30;

    /// <summary>Linux has a handful; a kernel without global pages has them all, and is not worth following.</summary>
    const int MostPrivate = 16;

    readonly int* _journal = (int*)NativeMemory.Alloc(EntryCount, sizeof(int));
    int _count;

    readonly PrivatePage[] _private = new PrivatePage[MostPrivate];
    int _privateCount;

    /// <summary>By half of the address space and address modulo: regions of 2 MiB that may lie in a large
    /// page.</summary>
    readonly ulong[] _large = new ulong[Regions / 64];
    bool _hasLarge;

    /// <summary>Of zeros: memory that is not there before it is used. A tag of zero is a hit for the first page alone,
    /// which has the first entry of each set.</summary>
    public readonly TlbEntry* Entries = (TlbEntry*)Zeros(EntryCount * (nuint)sizeof(TlbEntry));
    public readonly TlbDetail* Details = (TlbDetail*)Zeros(EntryCount * (nuint)sizeof(TlbDetail));

    public TlbContext()
    {
        for (int set = 0; set < TlbSet.Count; set++) Clear(Entries + TlbSet.Start(set));
    }

    public int Identifier { get; set; } = NoIdentifier;

    /// <summary>There are, or have been since the last flush, more translations of the upper half of the address space
    /// that are not global than <see cref="PrivateUpper"/> has.</summary>
    public bool HasMorePrivateUpper { get; private set; }

    /// <summary>Translations of the upper half that are not global: all others of the kernel's are the same in all
    /// contexts. With those that were carried here by <see cref="Note"/>.</summary>
    public ReadOnlySpan<PrivatePage> PrivateUpper => _private.AsSpan(0, _privateCount);

    /// <summary>When it was switched to last, as a count.</summary>
    public ulong LastUse { get; set; }

    public void Dispose()
    {
        NativeMemory.Free(_journal);
        Libc.munmap(Entries, EntryCount * (nuint)sizeof(TlbEntry));
        Libc.munmap(Details, EntryCount * (nuint)sizeof(TlbDetail));
    }

    static void* Zeros(nuint size)
    {
        void* at = Libc.mmap(null, size, Libc.ProtRead | Libc.ProtWrite, Libc.MapPrivate | Libc.MapAnonymous, -1, 0);
        return (nint)at != -1 ? at : throw new HostException("cannot make a TLB", Libc.Errno);
    }

    /// <summary>An entry that was empty is about to be filled.</summary>
    /// <returns>False: there is no room, <see cref="Flush"/> first.</returns>
    public bool Remember(TlbEntry* entry)
    {
        if (_count == EntryCount) return false;
        _journal[_count++] = (int)(entry - Entries);
        return true;
    }

    /// <summary>An entry is filled, or translated code knows of a translation that holds here too.</summary>
    public void Note(in PrivatePage page)
    {
        if ((page.Known & TlbEntry.Global) == 0 && (long)page.Linear < 0) NotePrivate(page);
        if ((page.Known & TlbEntry.Large) == 0) return;
        _hasLarge = true;
        _large[Region(page.Linear) >> 6] |= 1UL << (int)(Region(page.Linear) & 63);
    }

    static ulong Region(ulong linear) => linear >> LargeShift & Regions / 2 - 1 | (linear >> 63) * (Regions / 2);

    void NotePrivate(in PrivatePage page)
    {
        if (HasMorePrivateUpper) return;
        ulong known = page.Known & (TlbEntry.Read | TlbEntry.Write);
        foreach (ref PrivatePage noted in _private.AsSpan(0, _privateCount))
        {
            if (noted.Linear != page.Linear || noted.Physical != page.Physical || noted.Set != page.Set) continue;
            noted = noted with { Known = noted.Known | known };
            return;
        }
        if (_privateCount == MostPrivate) HasMorePrivateUpper = true;
        else _private[_privateCount++] = page with { Known = known };
    }

    /// <summary>Drops translations; with <paramref name="global"/> the global ones too.</summary>
    public void Flush(bool global)
    {
        int kept = 0;
        for (int i = 0; i < _count; i++)
        {
            TlbEntry* entry = Entries + _journal[i];
            if (!global && (entry->Known & TlbEntry.Global) != 0) _journal[kept++] = _journal[i];
            else Clear(entry);
        }
        _count = kept;
        HasMorePrivateUpper = false;
        _privateCount = 0;
        if (kept != 0) return;
        _hasLarge = false;
        Array.Clear(_large);
    }

    /// <summary>Whatever translates this address, in any set. A large page goes as a whole, with others of its
    /// gigabyte.</summary>
    /// <returns>More than the page was dropped.</returns>
    public bool FlushPage(ulong linear)
    {
        ulong page = linear & ~TlbEntry.Flags;
        for (int set = 0; set < TlbSet.Count; set++)
        {
            TlbEntry* entry = Cpu.Entry(Entries, set, linear);
            if (entry->Known != 0 && (entry->Known & ~TlbEntry.Flags) == page) Invalidate(entry);
        }
        if (!_hasLarge || (_large[Region(linear) >> 6] >> (int)(Region(linear) & 63) & 1) == 0) return false;
        for (int i = 0; i < _count; i++)
        {
            TlbEntry* entry = Entries + _journal[i];
            if ((entry->Known & TlbEntry.Large) != 0 && (entry->Known ^ linear) >> GigabyteShift == 0)
                Invalidate(entry);
        }
        return true;
    }

    /// <summary>Drops the write tags of a page that holds code from now on. True if there were any.</summary>
    public bool UntagWrites(nuint hostPage)
    {
        bool found = false;
        for (int i = 0; i < _count; i++)
        {
            TlbEntry* entry = Entries + _journal[i];
            if ((nuint)entry->Host != hostPage || entry->WriteTag == TlbEntry.Invalid) continue;
            entry->WriteTag = TlbEntry.Invalid;
            found = true;
        }
        return found;
    }

    /// <summary>Empties an entry that stays in the journal: Known keeps a flag but no rights.</summary>
    static void Invalidate(TlbEntry* entry)
    {
        Clear(entry);
        entry->Known =
            TlbEntry.Flags
            & ~(TlbEntry.Read | TlbEntry.Write | TlbEntry.Global | TlbEntry.Large | TlbEntry.WritableRam);
    }

    static void Clear(TlbEntry* entry)
    {
        (entry->ReadTag, entry->WriteTag) = (TlbEntry.Invalid, TlbEntry.Invalid);
        entry->Host = null;
        entry->Known = 0;
    }
}
