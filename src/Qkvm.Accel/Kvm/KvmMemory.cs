using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: slots map RAM that the machine keeps until its vCPUs and the virtual machine are closed.
/// <summary>Keeps the kernel's memory slots equal to an address space's view: RAM as it is, ROM read-only, the rest
/// exits.</summary>
/// <param name="space">The kernel's number of the address space: 0, or 1 for system management mode.</param>
sealed unsafe class KvmMemory(int machine, int maxSlots, uint space = 0)
{
    internal readonly record struct Slot(ulong Start, ulong Size, GuestRam Ram, ulong Offset, bool ReadOnly);

    readonly Dictionary<Slot, uint> _slots = [];
    readonly HashSet<(GuestRam Ram, ulong Page)> _written = [];    // in slots that have gone since they were asked
    bool _logs;

    readonly Stack<uint> _free = new(Enumerable.Range(0, maxSlots).Select(i => (uint)i).Reverse());

    const ulong Megabyte = 1 << 20;
    const int SpaceShift = 16;                                     // in a slot's number

    FlatView? _view;
    volatile bool _isA20Closed;

    /// <summary>Where a processor finds this address. With the gate closed the second megabyte is the first, for RAM by
    /// the slots and for registers here; higher ones, which nothing that closes the gate looks at, are not
    /// masked.</summary>
    public ulong Masked(ulong address) => _isA20Closed && address >> 20 == 1 ? address - Megabyte : address;

    /// <summary>The A20 gate; under the machine lock.</summary>
    public void SetA20(bool open)
    {
        if (_isA20Closed != open) return;
        _isA20Closed = !open;
        if (_view is { } view) Update(view);
    }

    public void Follow(AddressSpace memory)
    {
        Update(memory.View);
        memory.ViewChanged += (_, now) => Update(now);
    }

    /// <summary>Counts changes of slots, at their begin and end: odd while one is under way.</summary>
    public uint Changes => Volatile.Read(ref _changes);

    uint _changes;

    /// <summary>vCPUs run on. One that comes by while a slot is away finds registers there, which
    /// <see cref="AddressSpace"/> knows to be memory; or no code, and tries again.</summary>
    void Update(FlatView view)
    {
        Interlocked.Increment(ref _changes);
        Replace(view);
        Interlocked.Increment(ref _changes);
    }

    void Replace(FlatView view)
    {
        _view = view;
        HashSet<Slot> wanted = [.. _isA20Closed ? Wrapped(Wanted(view)) : Wanted(view)];
        // First the old ones away: the kernel refuses overlaps.
        foreach ((Slot slot, uint number) in _slots.Where(s => !wanted.Contains(s.Key)).ToArray())
        {
            if (_logs) Collect(slot, number, (ram, page) => _written.Add((ram, page)));
            Set(slot with { Size = 0 }, number);
            _slots.Remove(slot);
            _free.Push(number);
        }
        foreach (Slot slot in wanted)
        {
            if (_slots.ContainsKey(slot)) continue;
            uint number = _free.Pop();
            Set(slot, number);
            _slots[slot] = number;
        }
    }

    /// <summary>Changing a slot's flag begins a log of its own in the kernel.</summary>
    public void LogWrites(bool on)
    {
        _logs = on;
        _written.Clear();
        foreach ((Slot slot, uint number) in _slots) Set(slot, number);
    }

    public void CollectWrites(Action<GuestRam, ulong> written)
    {
        foreach ((GuestRam ram, ulong page) in _written) written(ram, page);
        _written.Clear();
        foreach ((Slot slot, uint number) in _slots) Collect(slot, number, written);
    }

    /// <summary>KVM_GET_DIRTY_LOG: the pages written since the last call, which begins anew.</summary>
    /// <remarks>SAFETY: the bitmap has a bit for each page of the slot, rounded up to words, and stays pinned for the
    /// call.</remarks>
    void Collect(Slot slot, uint number, Action<GuestRam, ulong> written)
    {
        if (slot.ReadOnly) return;                                 // nobody writes there
        var bitmap = new ulong[(slot.Size / GuestRam.PageSize + 63) / 64];
        fixed (ulong* start = bitmap)
        {
            var log = new KvmDirtyLog { Slot = number | space << SpaceShift, Bitmap = start };
            KvmApi.Call(machine, KvmApi.GetDirtyLog, &log, $"cannot read which of {slot.Size:x} bytes at " +
                $"{slot.Start:x} were written");
        }
        foreach (ulong page in Pages(bitmap)) written(slot.Ram, slot.Offset / GuestRam.PageSize + page);
    }

    /// <summary>The numbers of the bits that are set.</summary>
    internal static IEnumerable<ulong> Pages(ulong[] bitmap)
    {
        for (int i = 0; i < bitmap.Length; i++)
            for (ulong word = bitmap[i]; word != 0; word &= word - 1)
                yield return (ulong)i * 64 + (ulong)System.Numerics.BitOperations.TrailingZeroCount(word);
    }

    /// <summary>The slots with the second megabyte taken out and the first there once more.</summary>
    internal static IEnumerable<Slot> Wrapped(IEnumerable<Slot> slots)
    {
        foreach (Slot slot in slots)
        {
            foreach ((ulong from, ulong to) in new[] { (0ul, Megabyte), (2 * Megabyte, ulong.MaxValue) })
                if (Cut(slot, from, to) is { } kept) yield return kept;
            if (Cut(slot, 0, Megabyte) is { } low) yield return low with { Start = low.Start + Megabyte };
        }
    }

    static Slot? Cut(Slot slot, ulong from, ulong to)
    {
        ulong start = Math.Max(slot.Start, from), end = Math.Min(slot.Start + slot.Size, to);
        return start < end
            ? slot with { Start = start, Size = end - start, Offset = slot.Offset + (start - slot.Start) } : null;
    }

    internal static IEnumerable<Slot> Wanted(FlatView view)
    {
        var ranges = view.Ranges.ToArray();
        foreach (FlatRange range in ranges)
        {
            if (range.Ram is not { } ram) continue;
            const ulong PageMask = GuestRam.PageSize - 1;
            ulong start = (range.Start + PageMask) & ~PageMask, end = range.End & ~PageMask;
            ulong offset = range.RamOffset + (start - range.Start);
            // A page that is shared with something else, or shifted within its block, is left to exits.
            if (start < end && (offset & PageMask) == 0)
                yield return new Slot(start, end - start, ram, offset, !range.IsWritableRam);
        }
    }

    void Set(Slot slot, uint number)
    {
        var region = new KvmMemoryRegion
        {
            Slot = number | space << SpaceShift,
            Flags = slot.ReadOnly ? KvmMemoryRegion.ReadOnly : _logs ? KvmMemoryRegion.LogDirtyPages : 0,
            GuestAddress = slot.Start,
            Size = slot.Size,
            HostAddress = (ulong)(slot.Ram.Pointer + slot.Offset),
        };
        KvmApi.Call(machine, KvmApi.SetUserMemoryRegion, &region, $"cannot map {slot.Size:x} bytes of memory at " +
            $"{slot.Start:x}");
    }
}
