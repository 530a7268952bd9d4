using System.Runtime.CompilerServices;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: a hit's host address is within the page of RAM that the TLB's entry holds, which the machine keeps as long as
// its vCPUs.
/// <summary>Accesses that miss the TLB's tags: page walks, page crossings, registers of devices, ROM, code
/// pages.</summary>
public sealed unsafe partial class Cpu
{
    bool _is64Bit;
    int _canonicalShift = 16;

    int CurrentSet => (int)((_tlb - _tlbEntries) / TlbSet.Size);

    /// <summary>Memory of the machine as it is seen in the present mode; physical addresses.</summary>
    public AddressSpace Memory { get; private set; }

    /// <summary>I/O ports.</summary>
    public AddressSpace Ports { get; }

    public ulong PortIn(ushort port, int size)
    {
        ulong value = Ports.Read(port, size);
        LeaveIfCalled();
        return value;
    }

    public void PortOut(ushort port, int size, ulong value)
    {
        Ports.Write(port, size, value);
        LeaveIfCalled();
    }

    /// <summary>The bytes in host memory, if they lie within one page of RAM; throws #PF (or #GP) if they may not be
    /// accessed.
    /// With <paramref name="write"/> decoded code in them is dropped, now and once more after the instruction. Null for
    /// anything else: use ReadLinear and WriteLinear.</summary>
    public byte* TryHost(ulong linear, int size, bool write) => _checksAlignment ? null
        : HostOfLinear(linear, size, write);

    byte* HostOfLinear(ulong linear, int size, bool write)
    {
        TlbEntry* entry = Entry(_tlb, linear);
        ulong inside = linear - (write ? entry->WriteTag : entry->ReadTag);
        if (inside <= (ulong)(PageSize - size)) return entry->Host + inside;
        if ((linear & PageMask) + (ulong)size > PageSize) return null;
        entry = Fill(linear, write, CurrentSet, Seg.Ds);
        if (entry->Host == null || write && (entry->Known & TlbEntry.WritableRam) == 0 || WatchesPage(linear))
            return null;
        byte* host = entry->Host + (linear & PageMask);
        if (write && entry->WriteTag != (linear & ~PageMask))
        {
            NotifyWrite(entry, linear, size);
            _lateWriteHost = host;
            (_lateWriteMap, _lateWriteSize) = (Detail(entry)->Map, size);
            _leave |= LeaveBlock;
        }
        return host;
    }

    /// <summary>Throws what a write of these bytes would throw; changes nothing but accessed and dirty bits.</summary>
    public void ProbeWrite(ulong linear, int size)
    {
        Fill(linear, true, CurrentSet, Seg.Ds);
        ulong last = Wrap(linear + (ulong)(size - 1));
        if (((linear ^ last) & ~PageMask) != 0) Fill(last & ~PageMask, true, CurrentSet, Seg.Ds);
    }

    /// <summary>Faults as an instruction fetch at the current privilege would.</summary>
    internal void ProbeFetch(ulong linear) =>
        Fill(linear, false, State->Cpl == 3 ? TlbSet.UserFetch : TlbSet.SupervisorFetch, Seg.Cs);

    public void ReadBytes(ulong linear, Span<byte> data)
    {
        fixed (byte* to = data)
            for (int done = 0; done < data.Length;)
            {
                int count = (int)Math.Min((ulong)(data.Length - done), PageSize - (linear & PageMask));
                ReadPart(linear, to + done, count, CurrentSet, Seg.Ds);
                done += count;
                linear = Wrap(linear + (ulong)count);
            }
    }

    /// <summary>All pages are probed first, so that a fault leaves memory as it was.</summary>
    public void WriteBytes(ulong linear, ReadOnlySpan<byte> data)
    {
        if (data.Length == 0) return;
        // By number: the next page may be the first of the address space.
        for (ulong page = 0; page <= ((linear & PageMask) + (ulong)(data.Length - 1)) / PageSize; page++)
            Fill(Wrap(page == 0 ? linear : (linear & ~PageMask) + page * PageSize), true, CurrentSet, Seg.Ds);
        fixed (byte* from = data)
            for (int done = 0; done < data.Length;)
            {
                int count = (int)Math.Min((ulong)(data.Length - done), PageSize - (linear & PageMask));
                WritePart(linear, from + done, count, CurrentSet, Seg.Ds);
                done += count;
                linear = Wrap(linear + (ulong)count);
            }
    }

    ulong LinearSegmented(int number, ulong offset, int size, bool write)
    {
        ref Segment segment = ref State->Segment(number);
        uint access = segment.Access;
        ulong last = offset + (ulong)(size - 1);
        if ((access & (Segment.ExpandDown | Segment.Code)) == Segment.ExpandDown)
        {
            if (offset <= segment.Limit || last > ((access & Segment.Big) != 0 ? uint.MaxValue : ushort.MaxValue))
                throw SegmentFault(number);
        }
        else if (last > segment.Limit) throw SegmentFault(number);
        if (_checksRights)
        {
            if (access == 0) throw SegmentFault(number);           // null selector
            if (write)
                { if ((access & (Segment.Code | Segment.Writable)) != Segment.Writable) throw SegmentFault(number); }
            else if ((access & (Segment.Code | Segment.Writable)) == Segment.Code) throw SegmentFault(number);
        }
        return (uint)(segment.Base + offset);
    }

    GuestFault SegmentFault(int segment) => Fault(segment == Seg.Ss ? Vector.StackFault : Vector.GeneralProtection, 0);

    /// <summary>Linear addresses wrap at 4 GiB outside IA-32e mode, where the processor's own tables may lie
    /// high.</summary>
    ulong Wrap(ulong linear) => IsLongMode ? linear : (uint)linear;

    [MethodImpl(MethodImplOptions.NoInlining)]
    T ReadMissed<T>(ulong linear, int segment, int set) where T : unmanaged
    {
        T value;
        linear = Untag(linear);
        if (set == TlbSet.UserAligned) CheckAlignment(linear, sizeof(T), segment, write: false);
        int first = (int)Math.Min((ulong)sizeof(T), PageSize - (linear & PageMask));
        ReadPart(linear, (byte*)&value, first, set, segment);
        if (first < sizeof(T))
            ReadPart(Wrap(linear + (ulong)first), (byte*)&value + first, sizeof(T) - first, set, segment);
        return value;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    void WriteMissed<T>(ulong linear, T value, int segment, int set) where T : unmanaged
    {
        linear = Untag(linear);
        if (set == TlbSet.UserAligned) CheckAlignment(linear, sizeof(T), segment, write: true);
        int first = (int)Math.Min((ulong)sizeof(T), PageSize - (linear & PageMask));
        if (first == sizeof(T))
        {
            WritePart(linear, (byte*)&value, first, set, segment);
            return;
        }
        ulong second = Wrap(linear + (ulong)first);
        Fill(linear, true, set, segment);                           // both may fault: before any byte is written
        Fill(second, true, set, segment);
        // A plain store gives back what XCHG took: it must not fall between that one's load and store.
        lock (BusLock.Instance)
        {
            WritePart(linear, (byte*)&value, first, set, segment);
            WritePart(second, (byte*)&value + first, sizeof(T) - first, set, segment);
        }
    }

    /// <summary>Bytes within one page.</summary>
    void ReadPart(ulong linear, byte* to, int count, int set, int segment)
    {
        TlbEntry* entry = Fill(linear, false, set, segment);
        if (_watchesData) CheckWatchpoints(linear, count, write: false);
        if (entry->Host != null)
        {
            Copy(to, entry->Host + (linear & PageMask), count);
            return;
        }
        ulong physical = Detail(entry)->Physical | linear & PageMask;
        while (count > 0)
        {
            int size = LargestAccess(count);
            ulong value = ReadRegister(physical, size);
            Copy(to, (byte*)&value, size);
            to += size;
            physical += (ulong)size;
            count -= size;
        }
        LeaveIfCalled();
    }

    void WritePart(ulong linear, byte* from, int count, int set, int segment)
    {
        TlbEntry* entry = Fill(linear, true, set, segment);
        if (_watchesData) CheckWatchpoints(linear, count, write: true);
        if ((entry->Known & TlbEntry.WritableRam) != 0)
        {
            Copy(entry->Host + (linear & PageMask), from, count);
            if (entry->WriteTag != (linear & ~PageMask)) NotifyWrite(entry, linear, count);
            return;
        }
        ulong physical = Detail(entry)->Physical | linear & PageMask;
        while (count > 0)
        {
            int size = LargestAccess(count);
            ulong value = 0;
            Copy((byte*)&value, from, size);
            WriteRegister(physical, size, value);
            from += size;
            physical += (ulong)size;
            count -= size;
        }
        LeaveIfCalled();
    }

    /// <summary>In one access where the size has one: aligned accesses of up to 8 bytes are atomic.</summary>
    static void Copy(byte* to, byte* from, int count)
    {
        switch (count)
        {
            case 1: *to = *from; break;
            case 2: *(ushort*)to = *(ushort*)from; break;
            case 4: *(uint*)to = *(uint*)from; break;
            case 8: *(ulong*)to = *(ulong*)from; break;
            default: Buffer.MemoryCopy(from, to, count, count); break;
        }
    }

    static int LargestAccess(int count) => count >= 8 ? 8 : count >= 4 ? 4 : count >= 2 ? 2 : 1;

    bool IsApicPage(ulong physical) =>
        Apic is { } apic && (apic.BaseMsr & 0xC00) == 0x800
            && ((physical ^ apic.BaseMsr) & _physicalMask & ~PageMask) == 0;

    /// <summary>The default page without an APIC in it: disabled, moved away or in x2APIC mode. A processor's own
    /// accesses there are no messages and find nobody. Intel SDM vol. 3, sections 11.4.3 and 11.12.2.</summary>
    bool IsEmptyApicPage(ulong physical) => (physical & ~PageMask) == DefaultApicPage && Apic != null
        && !IsApicPage(physical);

    const ulong DefaultApicPage = 0xFEE00000;

    ulong ReadRegister(ulong physical, int size)
    {
        if (IsEmptyApicPage(physical)) return ulong.MaxValue;
        if (!IsApicPage(physical)) return Memory.Read(physical, size);
        if (_eoiElided) SettleEoi();
        uint offset = (uint)(physical & PageMask);
        ulong value = Apic!.ReadMmio(offset & ~3u);
        if (size == 8) value |= (ulong)Apic.ReadMmio((offset & ~3u) + 4 & 0xFFF) << 32;
        return value >> (int)(offset & 3) * 8;
    }

    void WriteRegister(ulong physical, int size, ulong value)
    {
        if (IsEmptyApicPage(physical)) return;
        if (!IsApicPage(physical)) Memory.Write(physical, size, value);
        else if ((physical & 3) == 0 && size >= 4) Apic!.WriteMmio((uint)(physical & PageMask), (uint)value);
    }

    /// <summary>The RAM or ROM at a physical address; null for registers.</summary>
    byte* HostOf(ulong physical, out CodeMap? map, out bool writable)
    {
        ref RamRange range = ref _ranges[0];
        if (physical - range.Start >= range.Length)
        {
            range = ref _ranges[1];
            if (physical - range.Start >= range.Length) range = ref FindRange(physical);
        }
        (map, writable) = (range.Map, range.Writable);
        return map == null ? null : range.Host + (physical - range.Start);
    }

    ref RamRange FindRange(ulong physical)
    {
        _ranges[1] = _ranges[0];
        ref RamRange range = ref _ranges[0];
        range = default;
        if (!Memory.View.TryFind(physical, out FlatRange found) || found.Ram is not { } ram) return ref range;
        range.Start = found.Start;
        range.Length = found.End - found.Start;
        range.Host = ram.Pointer + found.RamOffset;
        range.Writable = found.IsWritableRam;
        range.Map = _code.Of(ram);
        return ref range;
    }

    /// <summary>RAM ranges used last.</summary>
    readonly RamRange[] _ranges = new RamRange[2];

    /// <summary>A decoded byte was written, perhaps in the block that runs: leave it after this instruction.</summary>
    void NotifyWrite(TlbEntry* entry, ulong linear, int size)
    {
        if (_code[Detail(entry)->Map].Written(entry->Host + (linear & PageMask), size)) _leave |= LeaveBlock;
    }

    /// <summary>A register access may have moved memory or raised an interrupt: look before the next
    /// instruction.</summary>
    void LeaveIfCalled()
    {
        if (_attention != 0) _leave |= LeaveBlock;
    }

    struct RamRange
    {
        public ulong Start, Length;
        public byte* Host;
        public bool Writable;
        public CodeMap? Map;
    }
}
