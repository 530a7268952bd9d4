using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Drivers.Images;

/// <summary>A table of an image: numbers of 4 or 8 bytes, whose pages are read when they are wanted, so that a header
/// that speaks of a huge one costs nothing.</summary>
/// <remarks>A page is a multiple of sectors, so that each entry is on disk whole or as it was.</remarks>
/// <param name="offset">Of the first entry in the file.</param>
/// <param name="writeBack">Writes what changed in the order that the format needs; called where room is needed.</param>
sealed class ImageTable(BlockDriver file, long offset, long entries, int entrySize, bool isBigEndian, Action writeBack)
{
    public const int PageSize = 4096;
    const long MaxCacheBytes = 8 << 20;

    readonly ClusterTableCache _pages = new(file, PageSize, MaxCacheBytes, writeBack);

    public long Entries => entries;
    public long Offset => offset;
    public long Bytes => entries * entrySize;
    public bool HasDirty => _pages.HasDirty;

    /// <summary>The pages that changed, as they will be on disk.</summary>
    public IReadOnlyList<ClusterTable> Dirty => _pages.Dirty;

    public ulong this[long index]
    {
        get
        {
            ReadOnlySpan<byte> at = At(index, out _);
            if (entrySize == 4) return isBigEndian ? BinaryPrimitives.ReadUInt32BigEndian(at)
                : BinaryPrimitives.ReadUInt32LittleEndian(at);
            return isBigEndian ? BinaryPrimitives.ReadUInt64BigEndian(at)
                : BinaryPrimitives.ReadUInt64LittleEndian(at);
        }
        set
        {
            Span<byte> at = At(index, out ClusterTable page);
            if (entrySize == 4 && isBigEndian) BinaryPrimitives.WriteUInt32BigEndian(at, (uint)value);
            else if (entrySize == 4) BinaryPrimitives.WriteUInt32LittleEndian(at, (uint)value);
            else if (isBigEndian) BinaryPrimitives.WriteUInt64BigEndian(at, value);
            else BinaryPrimitives.WriteUInt64LittleEndian(at, value);
            _pages.MarkDirty(page);
        }
    }

    /// <summary>Whether an entry is in memory.</summary>
    public bool Holds(long index) => _pages.Holds(offset + PageOf(index));

    public void Write() => _pages.Write();

    /// <summary>The format has written the changed pages itself.</summary>
    public void Written() => _pages.Written();

    long PageOf(long index) => index * entrySize / PageSize * PageSize;

    /// <summary>The last page ends with the table: what follows belongs to others.</summary>
    Span<byte> At(long index, out ClusterTable page)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)index, (ulong)entries);
        long start = PageOf(index);
        page = _pages.Get(offset + start, (int)Math.Min(PageSize, Bytes - start));
        return page.Data.AsSpan((int)(index * entrySize - start), entrySize);
    }
}
