using System.Runtime.CompilerServices;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: a hit's host address is within the page of RAM that the TLB's entry holds, which the machine keeps as long as
// its vCPUs.
/// <summary>Paging: 32-bit with PSE, PAE, four and five levels. Intel SDM vol. 3, chapter 4.</summary>
/// <remarks>Deviations: PAE's PDPTEs are read at each walk, as AMD does, not when CR3 is loaded; the processor caches
/// no intermediate entries; accessed bits are set only once the whole translation is permitted.</remarks>
public sealed unsafe partial class Cpu
{
    const ulong EntryPresent = 1, EntryWritable = 2, EntryUser = 4, EntryAccessed = 0x20, EntryDirty = 0x40,
        EntryLarge = 0x80, EntryGlobal = 0x100, EntryNoExecute = 1UL << 63;
    const uint ErrorPresent = 1, ErrorWrite = 2, ErrorUser = 4, ErrorReserved = 8, ErrorFetch = 16, ErrorKey = 32;
    const int KeyShift = 59;

    readonly ulong _physicalMask;

    /// <summary>Pages of 1 GiB exist (CPUID 80000001h EDX bit 26).</summary>
    readonly bool _hasGigabytePages;

    /// <summary>Pages of 4 MiB have physical addresses of more than 32 bits.</summary>
    readonly bool _hasLargePages36;

    /// <summary>Guest linear to physical as a supervisor read, without side effects.</summary>
    public bool TryTranslate(ulong linear, out ulong physical)
    {
        bool mapped = Walk(linear, false, TlbSet.SupervisorAc, false, out physical, out _, out _);
        physical |= linear & PageMask;
        return mapped;
    }

    /// <summary>The entry that translates a page for this access; faults if there is none. Its tags are set where
    /// direct access is possible.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    TlbEntry* Fill(ulong linear, bool write, int set, int segment)
    {
        TlbEntry* entry = Entry(_tlbEntries, set, linear);
        ulong page = linear & ~PageMask, need = write ? TlbEntry.Write : TlbEntry.Read;
        if ((entry->Known & ~TlbEntry.Flags) != page || (entry->Known & need) == 0)
        {
            if (!IsCanonical(linear)) throw SegmentFault(segment);
            if (!Walk(linear, write, set, true, out ulong physical, out ulong known, out uint error))
                throw PageFault(linear, error);
            Install(entry, page, physical, known, set);
        }
        if (write && entry->WriteTag != page && set != TlbSet.UserAligned) TagWrites(entry, page);
        return entry;
    }

    /// <summary>As <see cref="Fill"/>; false instead of #PF (with its error code) or of a fault for an address that is
    /// not canonical.</summary>
    bool TryFill(ulong linear, bool write, int set, out TlbEntry* entry, out uint error)
    {
        entry = Entry(_tlbEntries, set, linear);
        error = 0;
        ulong page = linear & ~PageMask, need = write ? TlbEntry.Write : TlbEntry.Read;
        if ((entry->Known & ~TlbEntry.Flags) != page || (entry->Known & need) == 0)
        {
            if (!IsCanonical(linear)) return false;
            if (!Walk(linear, write, set, true, out ulong physical, out ulong known, out error)) return false;
            Install(entry, page, physical, known, set);
        }
        if (write && entry->WriteTag != page && set != TlbSet.UserAligned) TagWrites(entry, page);
        return true;
    }

    void Install(TlbEntry* entry, ulong page, ulong physical, ulong known, int set)
    {
        TlbDetail* detail = Detail(entry);
        byte* host = HostOf(physical, out CodeMap? map, out bool writable);
        if (host != null && (IsApicPage(physical) || HostOf(physical + PageMask, out _, out _) != host + PageMask))
            host = null;
        if (host != null && writable) known |= TlbEntry.WritableRam;
        detail->Physical = physical;
        detail->Map = host == null ? -1 : map!.Index;
        Remember(entry, new PrivatePage(page, physical, known, set));
        entry->Host = host;
        entry->Known = page | known;
        entry->ReadTag = host != null && (known & TlbEntry.Read) != 0 && set != TlbSet.UserAligned && !WatchesPage(page)
            ? page : TlbEntry.Invalid;
        entry->WriteTag = TlbEntry.Invalid;
        if (_codeStops != null && host != null && TlbSet.IsFetch(set)) NoteStops(page, host);
    }

    void TagWrites(TlbEntry* entry, ulong page)
    {
        if ((entry->Known & TlbEntry.WritableRam) == 0 || WatchesPage(page)) return;
        CodeMap map = _code[Detail(entry)->Map];
        if ((map.Flags(entry->Host) & (GuestRam.CodePage | GuestRam.WatchedPage)) == 0
            && map.TryTagWrites(entry->Host, Index))
        {
            entry->WriteTag = page;
            *TagsOf((nuint)entry->Host) = 1;
        }
    }

    /// <summary>Translates one page; with <paramref name="commit"/> accessed and dirty bits are set.</summary>
    bool Walk(ulong linear, bool write, int set, bool commit, out ulong physical, out ulong known, out uint error)
    {
        const int Levels = 5;
        ulong* places = stackalloc ulong[Levels + 1], entries = stackalloc ulong[Levels + 1];
        ulong cr0 = State->Cr0, cr4 = State->Cr4;
        known = TlbEntry.Read | TlbEntry.Write;
        error = 0;
        if ((cr0 & Cr0.Pg) == 0)
        {
            physical = MaskA20(linear & ~PageMask);
            return !IsNested || TryNestPage(ref physical, write, TlbSet.IsFetch(set), commit, ref known, out error);
        }
        bool isLong = (State->Efer & Efer.Lma) != 0, isPae = (cr4 & Cr4.Pae) != 0, hasNx = isPae
            && (State->Efer & Efer.Nx) != 0;
        bool user = TlbSet.IsUser(set), fetch = TlbSet.IsFetch(set), isNested = IsNested;
        int top = isLong ? (cr4 & Cr4.La57) != 0 ? 5 : 4 : isPae ? 3 : 2;
        error = (write ? ErrorWrite : 0) | (user ? ErrorUser : 0)
            | (fetch && (hasNx || (cr4 & Cr4.Smep) != 0) ? ErrorFetch : 0);
    again:
        physical = 0;
        ulong table = State->Cr3 & (isLong ? _physicalMask & ~PageMask : isPae ? 0xFFFFFFE0 : 0xFFFFF000);
        ulong rights = EntryWritable | EntryUser, noExecute = 0;
        ulong size = PageSize;
        int level = top;
        for (; ; level--)
        {
            int shift = 12 + (isPae ? 9 : 10) * (level - 1);
            ulong place = MaskA20(isPae ? table + (linear >> shift & 0x1FF) * 8
                : table + (linear >> shift & 0x3FF) * 4);
            if (isNested && !TryNestTable(ref place, commit, out uint nestedError))
            {
                error = nestedError;
                return false;
            }
            ulong entry = ReadEntry(place, isPae);
            (places[level], entries[level]) = (place, entry);
            if ((entry & EntryPresent) == 0) return false;
            bool isPointer = isPae && !isLong && level == 3;       // PDPTE: no rights of its own
            bool isLarge = (entry & EntryLarge) != 0 && !isPointer
                && (level == 2 && (isPae || (cr4 & Cr4.Pse) != 0) || level == 3 && isLong && _hasGigabytePages);
            if ((entry & ReservedBits(level, isLarge, isLong, isPae, hasNx)) != 0)
            {
                error |= ErrorPresent | ErrorReserved;
                return false;
            }
            if (!isPointer) (rights, noExecute) = (rights & entry, noExecute | entry & EntryNoExecute);
            ulong address = isPae ? entry & _physicalMask & ~PageMask : entry & 0xFFFFF000;
            if (isLarge)
            {
                size = 1UL << shift;
                if (!isPae) address |= (entry >> 13 & 0xFF) << 32 & _physicalMask;     // PSE-36
                address &= ~(size - 1);
                known |= TlbEntry.Large;
            }
            if (isLarge || level == 1)
            {
                physical = MaskA20(address | linear & size - 1 & ~PageMask);
                break;
            }
            table = address;
        }
        error |= ErrorPresent;
        bool mayRead, mayWrite, isUserPage = (rights & EntryUser) != 0, isProtected = (cr0 & Cr0.Wp) != 0;
        if (fetch)
        {
            mayWrite = false;
            mayRead = !(hasNx && noExecute != 0) && (user ? isUserPage : !isUserPage || (cr4 & Cr4.Smep) == 0);
        }
        else
        {
            mayRead = user ? isUserPage : !isUserPage || set == TlbSet.SupervisorAc || (cr4 & Cr4.Smap) == 0;
            mayWrite = mayRead && ((rights & EntryWritable) != 0 || !user && !isProtected);
            if (isLong && (cr4 & (isUserPage ? Cr4.Pke : Cr4.Pks)) != 0)
            {
                uint key = (isUserPage ? State->Pkru : (uint)State->Pkrs) >> (int)(entries[level] >> KeyShift & 15) * 2;
                bool readable = (key & 1) == 0, writable = readable && ((key & 2) == 0 || !user && !isProtected);
                // 4.7: told whether or not the page's own rights would have permitted the access.
                if (!(write ? writable : readable)) error |= ErrorKey;
                (mayRead, mayWrite) = (mayRead && readable, mayWrite && writable);
            }
        }
        if (write ? !mayWrite : !mayRead) return false;
        ulong nested = TlbEntry.Write;
        if (isNested && !TryNestPage(ref physical, write, fetch, commit, ref nested, out uint finalError))
        {
            error = finalError;
            return false;
        }
        if (commit)
            for (int i = top; i >= level; i--)
            {
                if (isPae && !isLong && i == 3) continue;
                ulong wanted = entries[i] | EntryAccessed | (write && i == level ? EntryDirty : 0);
                if (wanted != entries[i] && !UpdateEntry(places[i], entries[i], wanted, isPae)) goto again;
            }
        bool dirty = write || (entries[level] & EntryDirty) != 0;
        known &= ~(TlbEntry.Read | TlbEntry.Write);
        if (mayRead) known |= TlbEntry.Read;
        if (mayWrite && dirty) known |= nested;
        if ((entries[level] & EntryGlobal) != 0 && (cr4 & Cr4.Pge) != 0) known |= TlbEntry.Global;
        return true;
    }

    /// <summary>Tables 4-14 to 4-20; bit 63 is reserved unless EFER.NXE is set.</summary>
    ulong ReservedBits(int level, bool isLarge, bool isLong, bool isPae, bool hasNx)
    {
        if (!isPae) return isLarge ? 1UL << 21 | (_hasLargePages36 ? (~_physicalMask >> 32 & 0xFF) << 13 : 0x1FE000)
            : 0UL;
        ulong reserved = ~_physicalMask & (isLong ? 0x000F_FFFF_FFFF_FFFFUL : 0x7FFF_FFFF_FFFF_FFFFUL);
        if (!isLong && level == 3) return reserved | EntryNoExecute | 0x1E6;
        if (!hasNx) reserved |= EntryNoExecute;
        if (isLarge) reserved |= level == 2 ? 0x1FE000UL : 0x3FFFE000UL;
        else if (isLong && level >= (_hasGigabytePages ? 4 : 3)) reserved |= EntryLarge;
        return reserved;
    }

    ulong MaskA20(ulong physical) => State->A20Masked != 0 ? physical & ~(1UL << 20) : physical;

    ulong ReadEntry(ulong place, bool wide)
    {
        byte* host = HostOf(place, out _, out _);
        if (host == null) return Memory.Read(place, wide ? 8 : 4);
        return wide ? Volatile.Read(ref *(ulong*)host) : Volatile.Read(ref *(uint*)host);
    }

    /// <summary>False if another processor was faster. Tables in ROM keep their bits.</summary>
    bool UpdateEntry(ulong place, ulong old, ulong wanted, bool wide)
    {
        byte* host = HostOf(place, out CodeMap? map, out bool writable);
        if (host == null || !writable) return true;
        bool done = wide ? Interlocked.CompareExchange(ref *(ulong*)host, wanted, old) == old
            : Interlocked.CompareExchange(ref *(uint*)host, (uint)wanted, (uint)old) == (uint)old;
        if (done && (map!.Flags(host) & (GuestRam.CodePage | GuestRam.WatchedPage)) != 0)
            map.Written(host, wide ? 8 : 4);
        return done;
    }
}
