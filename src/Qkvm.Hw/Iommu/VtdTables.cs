using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Hw.Iommu;

/// <summary>Why a request was stopped. Intel VT-d, order D51397, section 7.1.3 "Fault Conditions and Remapping hardware
/// behavior for various request" and its tables.</summary>
public enum VtdFault : byte
{
    None = 0, RootNotPresent = 0x1, ContextNotPresent = 0x2, ContextInvalid = 0x3, AddressBeyond = 0x4,
    WriteDenied = 0x5, ReadDenied = 0x6, PageTableAccess = 0x7, RootAccess = 0x8, ContextAccess = 0x9,
    RootReserved = 0xA, ContextReserved = 0xB, PageReserved = 0xC,
    InterruptReserved = 0x20, IndexBeyond = 0x21, InterruptNotPresent = 0x22, InterruptTableAccess = 0x23,
    InterruptEntryReserved = 0x24, CompatibilityBlocked = 0x25, SourceDenied = 0x26,
}

/// <summary>A page that a walk has found: [Base, Base + Size) is guest memory from Target on.</summary>
public readonly record struct VtdPage(ulong Base, ulong Size, ulong Target, bool Readable, bool Writable);

/// <summary>The remapping structures in guest memory, and the walk through them. Intel VT-d, order D51397, sections 3.4
/// "Mapping Requests to Domains", 3.7 "Second-Level Translation", 9.1, 9.3 and 9.8.</summary>
/// <remarks>All that it reads is the guest's, in RAM alone; a walk takes at most eight reads.</remarks>
/// <param name="addressBits">The widest supported: 39 or 48; 0 where nothing is translated.</param>
/// <param name="snoops">Second-level entries may have SNP.</param>
/// <param name="passesThrough">Contexts may say so.</param>
public sealed class VtdTables(AddressSpace memory, int addressBits, bool snoops, bool passesThrough,
    bool hasDeviceIotlb)
{
    const ulong Present = 1, FaultDisable = 2, Address = 0x000F_FFFF_FFFF_F000, BeyondAddress = 0xFFF0_0000_0000_0000;
    const ulong RootReserved = 0xFFE | BeyondAddress, ContextReserved = 0xFF0 | BeyondAddress,
        ContextHighReserved = 0xFFFF_FFFF_FF00_0080;
    const int EntrySize = 16, PageShift = 12, LevelBits = 9, MostWidth = 7;
    const ulong Read = 1, Write = 2, SuperPage = 1 << 7, Snoop = 1 << 11, Transient = 1UL << 62;

    // TT of a context
    const int Untranslated = 0, WithDeviceIotlb = 1, PassThrough = 2;
    const ulong PassThroughPage = 1 << 30;

    /// <summary>Eight bytes of RAM; false for anything else.</summary>
    public bool TryRead(ulong address, out ulong value)
    {
        value = 0;
        if (!memory.TryGetRam(address, false, out GuestRam ram, out ulong offset, out ulong length)
            || length < sizeof(ulong)) return false;
        value = ram.Read(offset, sizeof(ulong));
        return true;
    }

    /// <summary>Finds the page of an address.</summary>
    /// <param name="root">The root table.</param>
    /// <param name="source">The requester's bus &lt;&lt; 8 | function.</param>
    /// <param name="isSilent">The context wants no fault on record.</param>
    public VtdFault Walk(ulong root, ushort source, ulong address, bool write, out VtdPage page, out bool isSilent)
    {
        (page, isSilent) = (default, false);
        ulong at = root + (ulong)(source >> 8) * EntrySize;
        if (!TryRead(at, out ulong low) || !TryRead(at + 8, out ulong high)) return VtdFault.RootAccess;
        if ((low & Present) == 0) return VtdFault.RootNotPresent;
        if ((low & RootReserved) != 0 || high != 0) return VtdFault.RootReserved;

        at = (low & Address) + (ulong)(source & 0xFF) * EntrySize;
        if (!TryRead(at, out low) || !TryRead(at + 8, out high)) return VtdFault.ContextAccess;
        isSilent = (low & FaultDisable) != 0;
        if ((low & Present) == 0) return VtdFault.ContextNotPresent;
        if ((low & ContextReserved) != 0 || (high & ContextHighReserved) != 0) return VtdFault.ContextReserved;

        int levels = (int)(high & MostWidth) + 2, kind = (int)(low >> 2) & 3;
        if (levels is not (3 or 4) || PageShift + levels * LevelBits > addressBits) return VtdFault.ContextInvalid;
        if (kind == PassThrough && passesThrough)
        {
            ulong start = address & ~(PassThroughPage - 1);
            page = new VtdPage(start, PassThroughPage, start, true, true);
            return VtdFault.None;
        }
        if (kind != Untranslated && !(kind == WithDeviceIotlb && hasDeviceIotlb)) return VtdFault.ContextInvalid;
        if (address >> (PageShift + levels * LevelBits) != 0) return VtdFault.AddressBeyond;
        return Walk(low & Address, levels, address, write, out page);
    }

    VtdFault Walk(ulong table, int levels, ulong address, bool write, out VtdPage page)
    {
        page = default;
        ulong allowed = Read | Write;
        for (int level = levels; ; level--)
        {
            int shift = PageShift + (level - 1) * LevelBits;
            ulong size = 1UL << shift, index = address >> shift & (1 << LevelBits) - 1;
            if (!TryRead(table + index * sizeof(ulong), out ulong entry)) return VtdFault.PageTableAccess;
            allowed &= entry;
            if ((allowed & (write ? Write : Read)) == 0) return write ? VtdFault.WriteDenied : VtdFault.ReadDenied;
            bool isLeaf = level == 1 || (entry & SuperPage) != 0;
            if ((entry & Reserved(level, isLeaf)) != 0) return VtdFault.PageReserved;
            table = entry & Address;
            if (!isLeaf) continue;
            page = new VtdPage(address & ~(size - 1), size, table, (allowed & Read) != 0, (allowed & Write) != 0);
            return VtdFault.None;
        }
    }

    /// <summary>Superpages have 2 MiB and 1 GiB; the low bits of their addresses are zero.</summary>
    ulong Reserved(int level, bool isLeaf)
    {
        if (!isLeaf) return Snoop;
        ulong reserved = (snoops ? 0 : Snoop) | (hasDeviceIotlb ? 0 : Transient);
        return level switch
        {
            1 => reserved,
            2 or 3 => reserved | ((1UL << (PageShift + (level - 1) * LevelBits)) - 1 & Address),
            _ => reserved | SuperPage,
        };
    }
}
