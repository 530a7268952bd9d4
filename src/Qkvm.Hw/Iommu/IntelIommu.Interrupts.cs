using Qkvm.Hw.Intc;

namespace Qkvm.Hw.Iommu;

/// <remarks>Interrupt remapping: section 5.1; the table's entries, section 9.10.</remarks>
public sealed partial class IntelIommu
{
    /// <summary>The I/O APIC's, as the DMAR table says.</summary>
    public const ushort IoApicSource = 0xFF00;

    const ulong WindowMask = 0xFFFF_FFFF_FFF0_0000;

    // Message address, section 5.1.2.2
    const uint SubhandleValid = 1 << 3, Remappable = 1 << 4;

    // IRTA, section 10.4.29
    const ulong WideEntries = 1 << 11, TableAddress = ~0xFFFUL, TableSize = 0x0F;

    // Entry, section 9.10
    const ulong Present = 1, FaultDisable = 2, Logical = 1 << 2, RedirectionHint = 1 << 3, LevelTriggered = 1 << 4,
        Reserved = 0x0000_0000_FF00_F000, NarrowReserved = 0xFFFF_00FF_0000_0000, ReservedHigh = ~0xF_FFFFUL;
    const int EntrySize = 16;

    /// <summary>By SQ: some of the function's three bits may differ.</summary>
    static ReadOnlySpan<ushort> ComparedBits => [0xFFFF, 0xFFFB, 0xFFF9, 0xFFF8];

    bool HasWideEntries =>
        _options.HasWideDestinations && (Volatile.Read(ref _interruptTable) & WideEntries) != 0;

    bool IInterruptRemapper.TryRemapIoApic(ulong address, uint data, out InterruptMessage message, bool isQuestion) =>
        TryRemap(IoApicSource, address, data, out message, isQuestion);

    /// <summary>From any thread. False for a message that goes nowhere.</summary>
    internal bool TryRemap(ushort source, ulong address, uint data, out InterruptMessage message,
        bool isQuestion = false)
    {
        message = default;
        if (!_isRemapping) return ApicBus.TryRead(address, data, out message);
        if ((address & WindowMask) != ApicBus.MsiWindow) return false;
        uint index = 0;
        VtdFault fault = VtdFault.CompatibilityBlocked;
        bool isSilent = isQuestion;
        if ((address & Remappable) != 0)
        {
            index = (uint)(address >> 5) & 0x7FFF | (uint)(address >> 2 & 1) << 15;
            if ((address & SubhandleValid) != 0) index += (ushort)data;
            fault = Look(index, source, out message, ref isSilent);
            if (fault == VtdFault.None) return true;
        }
        // Section 5.1.4: with wide destinations, never.
        else if (_takesCompatibility && !HasWideEntries) return ApicBus.TryRead(address, data, out message);
        if (!isSilent) Report(new VtdRecord(fault, source, (ulong)(ushort)index << 48, IsRead: false));
        return false;
    }

    VtdFault Look(uint index, ushort source, out InterruptMessage message, ref bool isSilent)
    {
        message = default;
        ulong table = Volatile.Read(ref _interruptTable);
        if (index >= 2UL << (int)(table & TableSize)) return VtdFault.IndexBeyond;
        ulong at = (table & TableAddress) + index * EntrySize;
        if (!_tables.TryRead(at, out ulong low) || !_tables.TryRead(at + 8, out ulong high))
            return VtdFault.InterruptTableAccess;
        isSilent |= (low & FaultDisable) != 0;
        if ((low & Present) == 0) return VtdFault.InterruptNotPresent;
        bool isWide = HasWideEntries;
        var mode = (DeliveryMode)(low >> 5 & 7);
        if ((low & (isWide ? Reserved : Reserved | NarrowReserved)) != 0 || (high & ReservedHigh) != 0
            || !IsAllowed(source, high, out bool isKnown) && !isKnown) return VtdFault.InterruptEntryReserved;
        if (!IsAllowed(source, high, out _)) return VtdFault.SourceDenied;
        bool isLogical = (low & Logical) != 0;
        if (mode == DeliveryMode.Fixed && isLogical && (low & RedirectionHint) != 0) mode = DeliveryMode.LowestPriority;
        message = new InterruptMessage((byte)(low >> 16), mode, isWide ? (uint)(low >> 32) : (byte)(low >> 40),
            isLogical, (low & LevelTriggered) != 0, isWide);
        return VtdFault.None;
    }

    /// <summary>SVT and SQ: whose messages the entry is for.</summary>
    /// <param name="isKnown">SVT has a meaning.</param>
    static bool IsAllowed(ushort source, ulong high, out bool isKnown)
    {
        const int any = 0, same = 1, buses = 2;
        ushort wanted = (ushort)high;
        int check = (int)(high >> 18) & 3;
        isKnown = check != 3;
        return check switch
        {
            any => true,
            same => ((source ^ wanted) & ComparedBits[(int)(high >> 16) & 3]) == 0,
            buses => source >> 8 >= wanted >> 8 && source >> 8 <= (wanted & 0xFF),
            _ => false,
        };
    }
}
