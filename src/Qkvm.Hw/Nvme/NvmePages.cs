using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Memory;

namespace Qkvm.Hw.Nvme;

/// <summary>The memory of one command, by its PRP entries. NVMe 1.4, section 4.3.</summary>
sealed class NvmePages
{
    const int EntryLength = 8, KeptEntries = 1024;                 // what lists keep room for between commands

    readonly List<Memory<byte>> _segments = [];
    readonly List<(ulong Address, uint Length)> _taken = [];

    /// <summary>Success, or why there is no such memory. The list is valid until the next call.</summary>
    /// <param name="pageSize">A power of two.</param>
    public ushort Map(Dma dma, ulong prp1, ulong prp2, long length, int pageSize, bool toMemory,
        out ScatterList memory)
    {
        memory = default;
        Forget();
        uint mask = (uint)pageSize - 1;
        long first = Math.Min(length, pageSize - (long)(prp1 & mask));
        ushort status = Add(dma, prp1, first, toMemory);
        long left = length - first;
        if (status == NvmeStatus.Success && left > 0)
            status = left <= pageSize ? Page(dma, prp2, left, mask, toMemory)
                : List(dma, prp2, left, mask, toMemory);
        if (status == NvmeStatus.Success) memory = new ScatterList(_segments, 0, 0, length);
        else Forget();
        return status;
    }

    /// <summary>Announces what was written, all of it or a part.</summary>
    public void MarkWritten(Dma dma)
    {
        foreach ((ulong address, uint length) in _taken) dma.MarkWritten(address, length);
    }

    public void Forget()
    {
        _segments.Clear();
        _taken.Clear();
        if (_taken.Capacity > KeptEntries) (_segments.Capacity, _taken.Capacity) = (KeptEntries, KeptEntries);
    }

    /// <summary>The last entry of a page leads to the next page of the list, if there is more. A list that leads to
    /// itself ends all the same: it is entered at its page's start, and gives all the entries before.</summary>
    ushort List(Dma dma, ulong at, long left, uint mask, bool toMemory)
    {
        Span<byte> entry = stackalloc byte[EntryLength];
        if ((at & (EntryLength - 1)) != 0) return NvmeStatus.InvalidPrpOffset;
        while (true)
        {
            if (!dma.Read(at, entry)) return NvmeStatus.DataTransferError;
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(entry);
            bool isLast = (at & mask) == mask + 1 - EntryLength;
            if (isLast && left > mask + 1)
            {
                if ((value & mask) != 0) return NvmeStatus.InvalidPrpOffset;
                at = value;
                continue;
            }
            ushort status = Page(dma, value, Math.Min(left, (long)mask + 1), mask, toMemory);
            if (status != NvmeStatus.Success) return status;
            left -= Math.Min(left, (long)mask + 1);
            if (left == 0) return NvmeStatus.Success;
            at += EntryLength;
        }
    }

    ushort Page(Dma dma, ulong address, long length, uint mask, bool toMemory) =>
        (address & mask) != 0 ? NvmeStatus.InvalidPrpOffset : Add(dma, address, length, toMemory);

    ushort Add(Dma dma, ulong address, long length, bool toMemory)
    {
        if (!dma.TryMap(address, (uint)length, toMemory, _segments)) return NvmeStatus.DataTransferError;
        if (toMemory) _taken.Add((address, (uint)length));
        return NvmeStatus.Success;
    }
}
