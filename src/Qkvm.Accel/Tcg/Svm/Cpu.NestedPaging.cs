namespace Qkvm.Accel.Tcg;

// SAFETY: see Cpu.Paging.
/// <summary>Nested paging: the guest's physical addresses are translated by the host's tables, in the form that the
/// host's own paging has. Spec: AMD64 APM vol. 2, section 15.25.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>In place of a page fault's error code: the fault is the host's.</summary>
    const uint IsNestedFault = 1u << 31;

    ulong _nestedCr0, _nestedCr4, _nestedEfer;

    /// <summary>EXITINFO2 and EXITINFO1 of the last nested page fault.</summary>
    ulong _nestedAddress, _nestedError;

    bool IsNested => IsGuest && _control.NestedPaging;

    /// <summary>The guest's page tables are read as if they were written: section 15.25.5.</summary>
    bool TryNestTable(ref ulong address, bool commit, out uint error) =>
        TryNest(ref address, true, false, commit, SvmExit.TableAddress, out _, out error);

    /// <summary>The page that the guest's own translation led to.</summary>
    /// <param name="known">What it permits; of that remains what the nested tables permit.</param>
    bool TryNestPage(ref ulong page, bool write, bool fetch, bool commit, ref ulong known, out uint error)
    {
        if (!TryNest(ref page, write, fetch, commit, SvmExit.FinalAddress, out bool writable, out error)) return false;
        if (!writable) known &= ~TlbEntry.Write;
        return true;
    }

    /// <summary>All accesses are a user's.</summary>
    /// <param name="writable">The page may be written, and its dirty bit is set.</param>
    bool TryNest(ref ulong address, bool write, bool fetch, bool commit, ulong kind, out bool writable, out uint error)
    {
        const int levels = 5;
        ulong* places = stackalloc ulong[levels + 1], entries = stackalloc ulong[levels + 1];
        bool isLong = (_nestedEfer & Efer.Lma) != 0, isPae = (_nestedCr4 & Cr4.Pae) != 0,
            hasNx = isPae && (_nestedEfer & Efer.Nx) != 0;
        int top = isLong ? (_nestedCr4 & Cr4.La57) != 0 ? 5 : 4 : isPae ? 3 : 2;
        ulong code = ErrorUser | (write ? ErrorWrite : 0) | (fetch ? ErrorFetch : 0);
        (_nestedAddress, writable, error) = (address, false, IsNestedFault);
        if (!isLong && address >> 32 != 0 || address >> 12 + 9 * top != 0) return Fail(code | kind);
    again:
        ulong table = _control.NestedCr3 & (isLong ? _physicalMask & ~PageMask : isPae ? 0xFFFFFFE0 : 0xFFFFF000);
        ulong rights = EntryWritable | EntryUser, noExecute = 0, page = 0;
        int level = top;
        for (; ; level--)
        {
            int shift = 12 + (isPae ? 9 : 10) * (level - 1);
            ulong place = isPae ? table + (address >> shift & 0x1FF) * 8 : table + (address >> shift & 0x3FF) * 4;
            ulong entry = ReadEntry(place, isPae);
            (places[level], entries[level]) = (place, entry);
            if ((entry & EntryPresent) == 0) return Fail(code | kind);
            bool isPointer = isPae && !isLong && level == 3;
            bool isLarge = (entry & EntryLarge) != 0 && !isPointer
                && (level == 2 && (isPae || (_nestedCr4 & Cr4.Pse) != 0) || level == 3 && isLong && _hasGigabytePages);
            if ((entry & ReservedBits(level, isLarge, isLong, isPae, hasNx)) != 0)
                return Fail(code | kind | ErrorPresent | ErrorReserved);
            if (!isPointer) (rights, noExecute) = (rights & entry, noExecute | entry & EntryNoExecute);
            ulong next = isPae ? entry & _physicalMask & ~PageMask : entry & 0xFFFFF000;
            if (isLarge || level == 1)
            {
                ulong size = 1UL << shift;
                if (isLarge && !isPae) next |= (entry >> 13 & 0xFF) << 32 & _physicalMask;
                page = next & ~(size - 1) | address & size - 1;
                break;
            }
            table = next;
        }
        bool mayRead = (rights & EntryUser) != 0 && !(fetch && hasNx && noExecute != 0);
        bool mayWrite = mayRead && (rights & EntryWritable) != 0;
        if (write ? !mayWrite : !mayRead) return Fail(code | kind | ErrorPresent);
        if (commit)
            for (int i = top; i >= level; i--)
            {
                if (isPae && !isLong && i == 3) continue;
                ulong wanted = entries[i] | EntryAccessed | (write && i == level ? EntryDirty : 0);
                if (wanted != entries[i] && !UpdateEntry(places[i], entries[i], wanted, isPae)) goto again;
            }
        (address, error) = (page, 0);
        writable = mayWrite && (write || (entries[level] & EntryDirty) != 0);
        return true;

        bool Fail(ulong told)
        {
            _nestedError = told;
            return false;
        }
    }
}
