using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Memory;

namespace Qkvm.Hw.Storage;

enum RegionFault { None, TooShort, Unmapped }

/// <summary>The physical region descriptor table of one command, taken piece by piece. AHCI 1.3.1, section
/// 4.2.3.3.</summary>
/// <param name="dma">The function's way to memory, once it is plugged.</param>
sealed class AhciRegions(Func<Dma> dma)
{
    const int DescriptorLength = 16;
    const uint CountMask = 0x3F_FFFF;                              // bytes, less one
    const int KeptEntries = 1024;                                  // what lists keep room for between commands

    readonly List<Memory<byte>> _segments = [];
    readonly List<(ulong Address, uint Length)> _taken = [];
    ulong _table;                                                  // not migrated: machines are saved between commands
    int _entries, _next;                                           // not migrated: as above
    uint _skip;                                                    // not migrated: as above; bytes of the next entry

    public void Begin(ulong table, int entries) => (_table, _entries, _next, _skip) = (table, entries, 0, 0);

    /// <summary>The memory of the next bytes; a list that is valid until the next call.</summary>
    public RegionFault Take(long wanted, bool toMemory, out ScatterList memory)
    {
        memory = default;
        Forget();
        Span<byte> descriptor = stackalloc byte[DescriptorLength];
        long left = wanted;
        for (; left > 0; _next++, _skip = 0)
        {
            if (_next >= _entries) return Refuse(RegionFault.TooShort);
            if (!dma().Read(_table + (ulong)_next * DescriptorLength, descriptor))
                return Refuse(RegionFault.Unmapped);
            ulong address = (BinaryPrimitives.ReadUInt64LittleEndian(descriptor) & ~1UL) + _skip;
            uint available =
                (BinaryPrimitives.ReadUInt32LittleEndian(descriptor[12..]) & CountMask) + 1 - _skip;
            uint count = (uint)Math.Min(available, left);
            if (!dma().TryMap(address, count, toMemory, _segments)) return Refuse(RegionFault.Unmapped);
            _taken.Add((address, count));
            left -= count;
            if (count == available) continue;
            _skip += count;
            break;
        }
        memory = new ScatterList(_segments, 0, 0, wanted);
        return RegionFault.None;
    }

    /// <summary>Announces what was written into the memory taken last.</summary>
    public void MarkWritten(long written)
    {
        foreach ((ulong address, uint length) in _taken)
        {
            uint count = (uint)Math.Min(length, written);
            if (count == 0) break;
            dma().MarkWritten(address, count);
            written -= count;
        }
        Forget();
    }

    RegionFault Refuse(RegionFault fault)
    {
        Forget();
        return fault;
    }

    void Forget()
    {
        _segments.Clear();
        _taken.Clear();
        if (_taken.Capacity <= KeptEntries) return;
        (_segments.Capacity, _taken.Capacity) = (KeptEntries, KeptEntries);
    }
}
