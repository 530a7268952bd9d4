using System.Runtime.InteropServices;
using Qkvm.Accel.Tcg.Translator;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: arrays of EntryCount entries, freed with the context; indices are masked to them.
/// <summary>The software TLB's upkeep: contexts for the process-context identifiers used last, and what of translated
/// code goes with them.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>Each takes 3 MB. Linux has six identifiers in turn, of which fewer would keep none.</summary>
    const int MaxContexts = 8;

    List<TlbContext> _contexts = [new TlbContext()];
    TlbContext _context;
    TlbEntry* _tlbEntries;
    TlbDetail* _tlbDetails;
    ulong _switches;

    /// <summary>Part of every block look-up's key: a new epoch forgets which linear address leads to which
    /// block.</summary>
    ulong _epoch;

    /// <summary>Drops translations; with <paramref name="global"/> the global ones and all contexts too.</summary>
    public void FlushTlb(bool global)
    {
        if (global)
        {
            foreach (TlbContext context in _contexts)
            {
                context.Flush(true);
                context.Identifier = TlbContext.NoIdentifier;
            }
            _context.Identifier = CurrentIdentifier;
            if (_otherContexts != null) FlushOtherWorld();
            new Span<byte>(_tagPages, TagPagesCount).Clear();
            ForgetContext(true);
            return;
        }
        ForgetPrivate(_context, keep: false);
    }

    /// <summary>INVLPG: whatever translates this address, in any set and context.</summary>
    public void FlushTlbPage(ulong linear)
    {
        bool large = false;
        foreach (TlbContext context in _contexts)
            if (context.Identifier != TlbContext.NoIdentifier) large |= context.FlushPage(linear);
        if (!large) ForgetPage(linear & ~PageMask);
        else if ((long)linear < 0) ForgetUpper();
        else ForgetLower();
        NewEpoch();
    }

    /// <summary>INVPCID type 1: one identifier, but for global translations.</summary>
    public void FlushTlbContext(ushort identifier)
    {
        foreach (TlbContext context in _contexts)
            if (context != _context && context.Identifier == identifier) context.Flush(false);
        if (_context.Identifier == identifier) FlushTlb(global: false);
    }

    /// <summary>INVPCID type 3: all identifiers, but for global translations.</summary>
    public void FlushTlbContexts()
    {
        foreach (TlbContext context in _contexts)
            if (context != _context) context.Flush(false);
        FlushTlb(global: false);
    }

    int CurrentIdentifier => (State->Cr4 & Cr4.Pcide) != 0 ? (int)(State->Cr3 & PageMask) : 0;

    /// <summary>CR3 has been loaded. Intel SDM vol. 3, section 4.10.4.1.</summary>
    /// <param name="keep">Bit 63 of the value was set: the identifier's translations still hold.</param>
    void SwitchContext(bool keep)
    {
        int identifier = CurrentIdentifier;
        TlbContext before = _context;
        if (identifier != _context.Identifier || (State->Cr4 & Cr4.Pcide) == 0) UseContext(FindContext(identifier));
        ForgetPrivate(before, keep);
    }

    readonly List<PrivatePage> _carried = [];

    /// <summary>What was known under <paramref name="before"/> is forgotten, but for global translations, and for those
    /// few others of the upper half that the tables have now, too: Linux splits some pages of its own, which are not
    /// global any more, and lets all processes have the same. Accessed bits of those are set, as a processor may at any
    /// time (section 4.8).</summary>
    void ForgetPrivate(TlbContext before, bool keep)
    {
        _carried.Clear();
        bool same = StillHold(before) && (before == _context || StillHold(_context));
        if (!keep) _context.Flush(false);
        ForgetContext(upper: !same);
        if (same)
            foreach (PrivatePage page in _carried) _context.Note(page);
    }

    bool StillHold(TlbContext from)
    {
        if (from.HasMorePrivateUpper) return false;
        foreach (PrivatePage page in from.PrivateUpper)
        {
            if (!Walk(page.Linear, false, page.Set, true, out ulong physical, out ulong known, out _)
                || physical != page.Physical || (page.Known & ~known) != 0) return false;
            _carried.Add(page with { Known = page.Known | known & TlbEntry.Large });
        }
        return true;
    }

    TlbContext FindContext(int identifier)
    {
        TlbContext oldest = _context;
        foreach (TlbContext context in _contexts)
        {
            if (context.Identifier == identifier) return context;
            if (oldest == _context || context != _context && context.LastUse < oldest.LastUse) oldest = context;
        }
        if (_contexts.Count < MaxContexts) _contexts.Add(oldest = new TlbContext());
        oldest.Flush(false);                                       // global translations are everybody's
        oldest.Identifier = identifier;
        return oldest;
    }

    void UseContext(TlbContext context)
    {
        _context = context;
        context.LastUse = ++_switches;
        long set = _tlbEntries == null ? TlbSet.Start(TlbSet.Supervisor) : _tlb - _tlbEntries;
        long systemSet = _tlbEntries == null ? TlbSet.Start(TlbSet.Supervisor) : _systemTlb - _tlbEntries;
        _tlbEntries = context.Entries;
        _tlbDetails = context.Details;
        _tlb = _tlbEntries + set;
        _systemTlb = _tlbEntries + systemSet;
        _jit->UserTlb = _tlbEntries + TlbSet.Start(TlbSet.User);
        _jit->SupervisorTlb = _tlbEntries + TlbSet.Start(TlbSet.Supervisor);
        _jit->SupervisorAcTlb = _tlbEntries + TlbSet.Start(TlbSet.SupervisorAc);
        _jit->UserFetchTlb = _tlbEntries + TlbSet.Start(TlbSet.UserFetch);
        _jit->SupervisorFetchTlb = _tlbEntries + TlbSet.Start(TlbSet.SupervisorFetch);
    }

    /// <summary>Other translations hold from now on than did before.</summary>
    void ForgetContext(bool upper)
    {
        ForgetLower();
        if (upper)
        {
            ForgetUpper();
            if (_engine != null) new Span<byte>(_jit->StorePages, JitState.StorePagesCount).Clear();
        }
        NewEpoch();
    }

    const int TagPagesCount = 1 << 16;

    /// <summary>By the low bits of a host page's number: 1 if some context may have a write tag for it.</summary>
    readonly byte* _tagPages = (byte*)NativeMemory.AllocZeroed(TagPagesCount);

    byte* TagsOf(nuint hostPage) => _tagPages + (hostPage >> GuestRam.PageShift & TagPagesCount - 1);

    TlbDetail* Detail(TlbEntry* entry) => _tlbDetails + (entry - _tlbEntries);

    void Remember(TlbEntry* entry, in PrivatePage page)
    {
        if (entry->Known == 0 && !_context.Remember(entry))
        {
            _context.Flush(true);
            _context.Remember(entry);
        }
        _context.Note(page);
    }

    bool UntagWrites(nuint hostPage)
    {
        if (*TagsOf(hostPage) == 0) return false;
        bool found = false;
        foreach (TlbContext context in _contexts) found |= context.UntagWrites(hostPage);
        foreach (TlbContext context in _otherContexts ?? []) found |= context.UntagWrites(hostPage);
        return found;
    }
}
