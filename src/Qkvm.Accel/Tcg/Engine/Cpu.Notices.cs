using Qkvm.Accel.Tcg.Translator;

namespace Qkvm.Accel.Tcg;

// SAFETY: arrays of one entry a page of the RAM, freed after all vCPUs; who asks for a page has an address in that RAM.
/// <summary>What vCPUs tell each other of pages that hold code.</summary>
/// <remarks>A vCPU with a write tag stores to a page without anybody noticing. So who decodes from it asks for the tags
/// to be given up, and waits for the answer before it reads: a store after that is noticed, one before it is read.
/// Otherwise code that was handed over with a flag, or whose page was exchanged, might run as it was before. Who waits,
/// sleeps or does not run stores nothing, and takes its notices before it does again: nobody waits for those.</remarks>
public sealed unsafe partial class Cpu
{
    readonly List<CodeNotice> _notices = [], _taken = [];

    /// <summary>Pages in <see cref="_notices"/> to give up the tags of: how many have been, and how many are done
    /// with.</summary>
    readonly HashSet<nuint> _untags = [];
    int _untagsTold, _untagsTaken;
    volatile bool _storesNothing = true;

    /// <summary>So many are let gather before a vCPU is woken for them.</summary>
    const int MostNotices = 4096;

    /// <summary>From any thread.</summary>
    /// <returns>To give to <see cref="HasUntagged"/>.</returns>
    internal int Notify(CodeNotice notice)
    {
        int ticket;
        lock (_callLock)
        {
            bool isNew = notice.Kind == CodeNoticeKind.Untag ? _untags.Add(notice.HostPage) : _notices.Count == 0
                || _notices[^1] != notice;
            if (isNew) _notices.Add(notice);
            if (isNew && notice.Kind == CodeNoticeKind.Untag) _untagsTold++;
            ticket = _untagsTold;
            if (_sleeping && _notices.Count < MostNotices)
            {
                // in time when it wakes: asleep it runs no code and stores nothing
                Interlocked.Or(ref _attention, CallNotice);
                return ticket;
            }
        }
        Call(CallNotice);
        return ticket;
    }

    bool HasUntagged(int ticket) => _storesNothing || Volatile.Read(ref _untagsTaken) - ticket >= 0;

    /// <summary>Until <see cref="StoresAgain"/> no guest memory is written through tags.</summary>
    void StoresNothing()
    {
        _storesNothing = true;
        Interlocked.MemoryBarrier();
    }

    /// <summary>Notices from before are in sight from here on, and are to be taken before anything is stored.</summary>
    void StoresAgain()
    {
        _storesNothing = false;
        Interlocked.MemoryBarrier();
    }

    /// <summary>Marks bytes of a page as decoded, before they are read for good.</summary>
    void MarkCode(CodeMap map, byte* from, int length)
    {
        ulong tags = map.Mark(from, length);
        if (tags == 0) return;
        nuint page = (nuint)from & ~(nuint)PageMask;
        if ((tags & CodeMap.TagOf(Index)) != 0) Untag(map, page);
        var spin = new SpinWait();
        foreach (Cpu other in _code.Tagged(tags, this))
        {
            int ticket = other.Notify(new CodeNotice(CodeNoticeKind.Untag, page, map.Index));
            if (other.HasUntagged(ticket)) continue;
            bool stores = !_storesNothing;                          // not when somebody drives it by hand
            _isDecoding = true;
            StoresNothing();
            while (!other.HasUntagged(ticket)) spin.SpinOnce(sleep1Threshold: -1);
            if (stores) StoresAgain();
            _isDecoding = false;
            TakeUntags();
        }
    }

    void Untag(CodeMap map, nuint page)
    {
        UntagWrites(page);
        ForgetStores(page);
        map.Untagged((byte*)page, Index);
    }

    /// <summary>In the midst of decoding: gives up tags, and leaves other notices for later.</summary>
    void TakeUntags()
    {
        lock (_callLock)
        {
            if (_untags.Count == 0) return;
            foreach (CodeNotice notice in _notices)
                if (notice.Kind == CodeNoticeKind.Untag) Untag(_code[notice.Map], notice.HostPage);
            _notices.RemoveAll(notice => notice.Kind == CodeNoticeKind.Untag);
            _untags.Clear();
            Volatile.Write(ref _untagsTaken, _untagsTold);
        }
    }

    /// <summary>Where code is, by what the page tables say now. Who reads a new entry sees what was written before it:
    /// so code that was dropped before that is not found any more.</summary>
    TlbEntry* FillForFetch(ulong linear)
    {
        TlbEntry* entry;
        do entry = Fill(linear, false, State->Cpl == 3 ? TlbSet.UserFetch : TlbSet.SupervisorFetch, Seg.Cs);
        while (TookNotices());
        return entry;
    }

    bool TookNotices()
    {
        if ((Volatile.Read(ref _attention) & CallNotice) == 0) return false;
        Interlocked.And(ref _attention, ~CallNotice);
        TakeNotices();
        return true;
    }

    /// <summary>What the loop does between blocks, for tests that drive a vCPU by hand.</summary>
    internal void AnswerCalls() => TakeNotices();

    void TakeNotices()
    {
        TakeUntags();
        TakeFlushes();
        lock (_callLock)
        {
            foreach (CodeNotice notice in _notices)
                if (notice.Kind != CodeNoticeKind.Untag) _taken.Add(notice);
            _notices.RemoveAll(notice => notice.Kind != CodeNoticeKind.Untag);
        }
        foreach (CodeNotice notice in _taken)
            if (notice.Kind == CodeNoticeKind.Drop)
            {
                if (_codePages.TryGetValue(notice.HostPage, out nint page)) ((CodePage*)page)->Generation++;
                DropTranslations(notice.HostPage, notice.From, notice.From + notice.Length);
                NewEpoch();
            }
            else
            {
                Array.Clear(_ranges);
                FlushTlb(global: true);
            }
        _taken.Clear();
    }
}
