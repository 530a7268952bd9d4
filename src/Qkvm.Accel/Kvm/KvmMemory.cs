using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

/// <summary>Keeps the kernel's memory slots equal to an address space's view: RAM as it is, ROM read-only, the rest exits.</summary>
sealed unsafe class KvmMemory(int machine, int maxSlots)
{
    readonly record struct Slot(ulong Start, ulong Size, GuestRam Ram, ulong Offset, bool ReadOnly);

    readonly Dictionary<Slot, uint> _slots = [];
    readonly Stack<uint> _free = new(Enumerable.Range(0, maxSlots).Select(i => (uint)i).Reverse());

    public void Follow(AddressSpace memory)
    {
        Update(memory.View);
        memory.ViewChanged += (_, now) => Update(now);
    }

    void Update(FlatView view)
    {
        HashSet<Slot> wanted = [.. Wanted(view)];
        // First the old ones away: the kernel refuses overlaps.
        foreach ((Slot slot, uint number) in _slots.Where(s => !wanted.Contains(s.Key)).ToArray())
        {
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

    static IEnumerable<Slot> Wanted(FlatView view)
    {
        var ranges = view.Ranges.ToArray();
        foreach (FlatRange range in ranges)
        {
            if (range.Ram is not { } ram) continue;
            const ulong PageMask = GuestRam.PageSize - 1;
            ulong start = (range.Start + PageMask) & ~PageMask, end = range.End & ~PageMask;
            ulong offset = range.RamOffset + (start - range.Start);
            // A page that is shared with something else, or shifted within its block, is left to exits.
            if (start < end && (offset & PageMask) == 0) yield return new Slot(start, end - start, ram, offset, !range.IsWritableRam);
        }
    }

    void Set(Slot slot, uint number)
    {
        var region = new KvmMemoryRegion
        {
            Slot = number,
            Flags = slot.ReadOnly ? KvmMemoryRegion.ReadOnly : 0,
            GuestAddress = slot.Start,
            Size = slot.Size,
            HostAddress = (ulong)(slot.Ram.Pointer + slot.Offset),
        };
        KvmApi.Call(machine, KvmApi.SetUserMemoryRegion, &region, $"cannot map {slot.Size:x} bytes of memory at {slot.Start:x}");
    }
}
