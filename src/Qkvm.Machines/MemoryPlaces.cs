using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines;

/// <summary>Finds slots and addresses for memory beside that of -m, as -m slots=,maxmem= gives room for it.</summary>
sealed class MemoryPlaces(MemoryConfig config, PcMemory memory)
{
    readonly List<IMemoryDevice> _present = [];

    /// <summary>What is there, in the order of its coming.</summary>
    public IReadOnlyList<IMemoryDevice> Present => _present;

    public void Add(IMemoryDevice device) => _present.Add(device);
    public void Remove(IMemoryDevice device) => _present.Remove(device);

    /// <param name="wanted">Null: any.</param>
    /// <exception cref="ConfigurationException">There is none, or somebody has it.</exception>
    public int FindSlot(ulong? wanted, Func<string, ConfigurationException> error)
    {
        int[] taken = [.. _present.OfType<IDimm>().Select(dimm => dimm.Slot)];
        if (config.Slots == 0) throw error("no slots where allocated, please specify the 'slots' option");
        if (wanted is { } given)
        {
            if (given >= (ulong)config.Slots)
                throw error($"invalid slot number {given}, valid range is [0-{config.Slots - 1}]");
            return !taken.Contains((int)given) ? (int)given : throw error($"slot {given} is busy");
        }
        for (int slot = 0; slot < config.Slots; slot++)
            if (!taken.Contains(slot)) return slot;
        throw error("no free slots available");
    }

    /// <param name="size">Bytes.</param>
    /// <exception cref="ConfigurationException">There is no room, or not where the user wants it.</exception>
    public ulong FindAddress(ulong size, in MemoryWish wish)
    {
        (ulong wanted, ulong alignment, Func<string, ConfigurationException> error) = wish;
        (ulong start, ulong room) = memory.DeviceMemory;
        if (room == 0)
            throw error("memory devices (e.g. for memory hotplug) are not enabled, please specify the maxmem option");
        ulong used = _present.Aggregate(0UL, (sum, other) => sum + other.Room), most = config.MaxSize - config.Size;
        if (size % alignment != 0) throw error($"backend memory size must be multiple of 0x{alignment:x}");
        if (size > most - used)
            throw error($"not enough space, currently 0x{used:x} in use of total space for memory devices "
                + $"0x{most:x}");
        if (wanted % alignment != 0) throw error($"address must be aligned to 0x{alignment:x} bytes");
        if (wanted != 0 && (wanted < start || size > room || wanted - start > room - size))
            throw error($"can't add memory device [0x{wanted:x}:0x{size:x}], usable range for memory devices "
                + $"[0x{start:x}:0x{room:x}]");
        ulong at = wanted != 0 ? wanted : Align(start);
        foreach (IMemoryDevice other in _present.OrderBy(other => other.Address))
        {
            if (at >= other.Address + other.Room || at + size <= other.Address) continue;
            if (wanted != 0)
                throw error($"address range conflicts with memory device id='{other.Id ?? "(unnamed)"}'");
            at = Align(other.Address + other.Room);
        }
        return at + size - start <= room ? at
            : throw error("could not find position in guest address space for memory device - memory fragmented "
                + "due to alignments");

        ulong Align(ulong address) => (address + alignment - 1) & ~(alignment - 1);
    }
}
