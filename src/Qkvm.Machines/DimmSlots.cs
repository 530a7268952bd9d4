using Qkvm.Core.Machine;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines;

/// <summary>Finds slots and addresses for memory that comes, as -m slots=,maxmem= gives room for it.</summary>
/// <param name="config">-m.</param>
/// <param name="present">What is there.</param>
sealed class DimmSlots(MemoryConfig config, PcMemory memory, IEnumerable<Dimm> present)
{
    /// <summary>Of addresses and sizes: what a processor's large pages have.</summary>
    const ulong Alignment = 2 << 20;

    /// <exception cref="ConfigurationException">There is no room, or not where the user wants it.</exception>
    public (int Slot, ulong Address) Find(Dimm dimm) => (FindSlot(dimm), FindAddress(dimm));

    int FindSlot(Dimm dimm)
    {
        if (config.Slots == 0) throw dimm.Error("no slots where allocated, please specify the 'slots' option");
        if (dimm.WantedSlot is { } wanted)
        {
            if (wanted >= (ulong)config.Slots)
                throw dimm.Error($"invalid slot number {wanted}, valid range is [0-{config.Slots - 1}]");
            return present.All(other => (ulong)other.Slot != wanted) ? (int)wanted
                : throw dimm.Error($"slot {wanted} is busy");
        }
        for (int slot = 0; slot < config.Slots; slot++)
            if (present.All(other => other.Slot != slot)) return slot;
        throw dimm.Error("no free slots available");
    }

    ulong FindAddress(Dimm dimm)
    {
        ulong size = dimm.Size, wanted = dimm.WantedAddress, most = config.MaxSize - config.Size;
        (ulong start, ulong room) = memory.DeviceMemory;
        ulong used = present.Aggregate(0UL, (sum, other) => sum + other.Size);
        if (size % Alignment != 0) throw dimm.Error($"backend memory size must be multiple of 0x{Alignment:x}");
        if (size > most - used)
            throw dimm.Error($"not enough space, currently 0x{used:x} in use of total space for memory devices "
                + $"0x{most:x}");
        if (wanted % Alignment != 0) throw dimm.Error($"address must be aligned to 0x{Alignment:x} bytes");
        if (wanted != 0 && (wanted < start || size > room || wanted - start > room - size))
            throw dimm.Error($"can't add memory device [0x{wanted:x}:0x{size:x}], usable range for memory devices "
                + $"[0x{start:x}:0x{room:x}]");
        ulong at = wanted != 0 ? wanted : start;
        foreach (Dimm other in present.OrderBy(other => other.Address))
        {
            if (at >= other.Address + other.Size || at + size <= other.Address) continue;
            if (wanted != 0)
                throw dimm.Error($"address range conflicts with memory device id='{other.Id ?? "(unnamed)"}'");
            at = other.Address + other.Size;
        }
        return at + size - start <= room ? at
            : throw dimm.Error("could not find position in guest address space for memory device - memory fragmented "
                + "due to alignments");
    }
}
