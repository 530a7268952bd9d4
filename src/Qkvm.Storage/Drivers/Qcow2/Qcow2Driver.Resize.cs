using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Moves the end of the disk. What is new reads as zeros, whatever lies below or lay there before.</summary>
public sealed partial class Qcow2Driver
{
    protected override async ValueTask ResizeCore(long length, Preallocation preallocation)
    {
        long old = Length;
        await ResizeCore(length).ConfigureAwait(false);
        if (preallocation == Preallocation.Off || length <= old) return;
        lock (_store.Sync) _writer.AllocateAll((old + _layout.ClusterSize - 1) & -_layout.ClusterSize);
        await FlushAsync().ConfigureAwait(false);
        if (preallocation != Preallocation.Metadata)
            await Qcow2Image.FillHolesAsync(_store.Data, preallocation).ConfigureAwait(false);
    }

    protected override async ValueTask ResizeCore(long length)
    {
        long old = Length;
        if (Info.Header.Version == 2 && _store.Snapshots.Count > 0)
            throw new BlockException("Can't resize a v2 image which has snapshots", Errno.OpNotSupp);
        if (Info.Header.Version == 2 && Backing != null && length < old)
            throw new BlockException($"{FileName}: an image of version 2 over another cannot shrink", Errno.OpNotSupp);
        PrepareForWriting();
        if (length < old) await CutAsync(length, old).ConfigureAwait(false);
        else
        {
            lock (_store.Sync) _store.GrowL1(length);
            long clusterEnd = (old + _layout.ClusterSize - 1) & -_layout.ClusterSize;
            long foreign = Math.Min(length, Math.Max(clusterEnd, Backing?.Length ?? 0));
            if (foreign > old) await WriteZeroesCore(old, foreign - old, mayUnmap: true).ConfigureAwait(false);
        }
        lock (_store.Sync)
        {
            _store.Flush();
            _store.FlushFile();
            Info.Header.Size = length;
            foreach (Qcow2Bitmap bitmap in _bitmaps) if (!bitmap.IsInconsistent) bitmap.Resize(length);
            _store.WriteDiskFields();
            _store.FlushFile();
        }
    }

    async ValueTask CutAsync(long length, long old)
    {
        long whole = Math.Min(old, (length + _layout.ClusterSize - 1) & -_layout.ClusterSize);
        if (whole > length) await WriteZeroesCore(length, whole - length, mayUnmap: false).ConfigureAwait(false);
        for (long offset = whole; offset < old;)
        {
            long count = Math.Min(old - offset, 1L << 30);
            await DiscardCore(offset, count).ConfigureAwait(false);
            offset += count;
        }
    }
}

/// <summary>The disk's size and its L1 table in the header.</summary>
sealed partial class Qcow2Store
{
    const int DiskFieldsAt = 24, DiskFieldsLength = 24;            // size, encryption, L1 entries, L1 offset

    /// <summary>Makes the L1 table large enough for a disk; a larger one lies elsewhere.</summary>
    /// <param name="size">Bytes of the disk.</param>
    public void GrowL1(long size)
    {
        int bits = Layout.ClusterBits + Layout.L2Bits;
        long entries = (size + (1L << bits) - 1) >> bits;
        if (entries <= Header.L1Entries) return;
        if (entries * 8 > Qcow2Header.MaxL1Bytes)
            throw new BlockException("Failed to grow the L1 table: File too large", Errno.FBig);
        int clusters = (int)((entries * 8 + Layout.ClusterSize - 1) >> Layout.ClusterBits);
        long home = AllocateTogether(clusters), oldHome = Header.L1Offset, oldBytes = Header.L1Entries * 8L;
        ulong[] grown = Mapping.GrowL1((int)entries);
        var raw = new byte[(long)clusters << Layout.ClusterBits];
        for (int i = 0; i < grown.Length; i++) BinaryPrimitives.WriteUInt64BigEndian(raw.AsSpan(i * 8), grown[i]);
        Write(home, raw);
        WriteBack();                                               // refcounts of the new table, tables it refers to
        FlushFile();
        (Header.L1Offset, Header.L1Entries) = (home, (int)entries);
        WriteDiskFields();
        FlushFile();
        Map.AddRegion(home, raw.Length);
        Map.RemoveRegion(oldHome, oldBytes);
        FreeLater(oldHome, oldBytes, punch: false);
    }

    /// <summary>One write within a sector: it happens or it does not.</summary>
    public void WriteDiskFields()
    {
        var fields = new byte[DiskFieldsLength];
        BinaryPrimitives.WriteInt64BigEndian(fields, Header.Size);
        BinaryPrimitives.WriteUInt32BigEndian(fields.AsSpan(8), Header.Encryption);
        BinaryPrimitives.WriteInt32BigEndian(fields.AsSpan(12), Header.L1Entries);
        BinaryPrimitives.WriteInt64BigEndian(fields.AsSpan(16), Header.L1Offset);
        Write(DiskFieldsAt, fields);
    }

    /// <summary>Neighbouring clusters; shorter runs met on the way go back.</summary>
    public long AllocateTogether(int wanted)
    {
        var tooShort = new List<(long Offset, long Length)>();
        (long first, int count) = Refcounts.Allocate(wanted, out _);
        while (count < wanted)
        {
            (long next, int more) = Refcounts.Allocate(wanted - count, out _);
            if (next == first + ((long)count << Layout.ClusterBits))
            {
                count += more;
                continue;
            }
            tooShort.Add((first, (long)count << Layout.ClusterBits));
            (first, count) = (next, more);
        }
        foreach ((long offset, long length) in tooShort) FreeNow(offset, length, punch: false);
        return first;
    }
}
