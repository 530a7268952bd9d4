using System.Runtime.InteropServices;

namespace Qkvm.Accel.Tcg.Interpreter;

/// <summary>The software TLB's upkeep. What was filled is kept in a journal, so that a flush touches no more than that.</summary>
/// <remarks>Process context identifiers: translations of one only are held. Each load of CR3 drops all but the global ones,
/// which the architecture permits (Intel SDM vol. 3, section 4.10.4.1).</remarks>
public sealed unsafe partial class Cpu
{
    const int JournalSize = TlbSet.Count * TlbSet.Size;

    readonly TlbEntry* _tlbEntries = (TlbEntry*)NativeMemory.AlignedAlloc(TlbSet.Count * TlbSet.Size * (nuint)sizeof(TlbEntry), 64);
    readonly TlbDetail* _tlbDetails = (TlbDetail*)NativeMemory.AlignedAlloc(TlbSet.Count * TlbSet.Size * (nuint)sizeof(TlbDetail), 64);
    readonly ushort* _journal = (ushort*)NativeMemory.Alloc(JournalSize, sizeof(ushort));
    int _journalCount;
    bool _hasLargePages;

    /// <summary>Part of every block look-up's key: a new epoch forgets which linear address leads to which block.</summary>
    ulong _epoch;

    /// <summary>Drops translations; with <paramref name="global"/> the global ones too.</summary>
    public void FlushTlb(bool global)
    {
        int kept = 0;
        for (int i = 0; i < _journalCount; i++)
        {
            TlbEntry* entry = _tlbEntries + _journal[i];
            if (!global && (entry->Known & TlbEntry.Global) != 0) _journal[kept++] = _journal[i];
            else Clear(entry);
        }
        _journalCount = kept;
        if (kept == 0) _hasLargePages = false;
        NewEpoch();
    }

    /// <summary>INVLPG: whatever translates this address, in any set. A large page goes as a whole.</summary>
    public void FlushTlbPage(ulong linear)
    {
        const int GigabyteShift = 30;
        ulong page = linear & ~PageMask;
        for (int set = 0; set < TlbSet.Count; set++)
        {
            TlbEntry* entry = Entry(_tlbEntries + set * TlbSet.Size, linear);
            if (entry->Known != 0 && (entry->Known & ~TlbEntry.Flags) == page) Invalidate(entry);
        }
        if (_hasLargePages)
            for (int i = 0; i < _journalCount; i++)
            {
                TlbEntry* entry = _tlbEntries + _journal[i];
                if ((entry->Known & TlbEntry.Large) != 0 && (entry->Known ^ linear) >> GigabyteShift == 0) Invalidate(entry);
            }
        NewEpoch();
    }

    /// <summary>INVPCID types 0 and 1, and CR3 loads: one identifier. All are treated as the current one.</summary>
    public void FlushTlbContext(ushort pcid)
    {
        _ = pcid;
        FlushTlb(global: false);
    }

    public void FlushTlbPageContext(ulong linear, ushort pcid)
    {
        _ = pcid;
        FlushTlbPage(linear);
    }

    TlbDetail* Detail(TlbEntry* entry) => _tlbDetails + (entry - _tlbEntries);

    void Remember(TlbEntry* entry)
    {
        if (_journalCount == JournalSize) FlushTlb(global: true);
        _journal[_journalCount++] = (ushort)(entry - _tlbEntries);
    }

    /// <summary>Empties an entry that stays in the journal: Known keeps a flag but no rights.</summary>
    static void Invalidate(TlbEntry* entry)
    {
        Clear(entry);
        entry->Known = TlbEntry.Flags & ~(TlbEntry.Read | TlbEntry.Write | TlbEntry.Global | TlbEntry.Large | TlbEntry.WritableRam);
    }

    static void Clear(TlbEntry* entry)
    {
        (entry->ReadTag, entry->WriteTag) = (TlbEntry.Invalid, TlbEntry.Invalid);
        entry->Host = null;
        entry->Known = 0;
    }

    void ClearAllEntries()
    {
        for (int i = 0; i < JournalSize; i++) Clear(_tlbEntries + i);
        _journalCount = 0;
        NewEpoch();
    }

    /// <summary>Drops the write tags of a page that holds code from now on. True if there were any.</summary>
    bool UntagWrites(nuint hostPage)
    {
        bool found = false;
        for (int i = 0; i < _journalCount; i++)
        {
            TlbEntry* entry = _tlbEntries + _journal[i];
            if ((nuint)entry->Host != hostPage || entry->WriteTag == TlbEntry.Invalid) continue;
            entry->WriteTag = TlbEntry.Invalid;
            found = true;
        }
        return found;
    }
}
