using System.Buffers;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Everything that changes guest data or where it lies. The caller holds the guest clusters.</summary>
/// <param name="knowsZeroes">Version 3: an L2 entry can say that its cluster is zero.</param>
sealed class Qcow2Writer(Qcow2Store store, Qcow2Driver image, bool knowsZeroes)
{
    const long MaxRunBytes = 4 << 20;

    readonly Qcow2Layout _layout = store.Layout;

    bool HasBacking => image.Backing != null;

    /// <summary>Writes the leading part whose clusters are allocated and ours alone; returns its length.</summary>
    public async ValueTask<long> WriteInPlaceAsync(long offset, ScatterList buffers)
    {
        long done = 0;
        while (done < buffers.Length)
        {
            Extent extent;
            lock (store.Sync)
            {
                store.CheckWritable();
                extent = store.Mapping.Find(offset + done, buffers.Length - done);
                if (extent.Kind != ExtentKind.Data || !extent.Entry.IsCopied) break;
                CheckIsData(extent.HostOffset, extent.Length);
            }
            await store.WriteDataAsync(extent.HostOffset, buffers.Slice(done, extent.Length)).ConfigureAwait(false);
            done += extent.Length;
        }
        return done;
    }

    /// <summary>Writes anything. The clusters are held exclusively.</summary>
    public async ValueTask WriteAsync(long offset, ScatterList buffers)
    {
        while (true)
        {
            long done = await WriteInPlaceAsync(offset, buffers).ConfigureAwait(false);
            if (done == buffers.Length) return;
            long left = buffers.Length - done;
            Allocation allocation;
            lock (store.Sync) allocation = Allocate(offset + done, left);
            await FillAsync(allocation, buffers.Slice(done, allocation.Length)).ConfigureAwait(false);
            done += allocation.Length;
            offset += done;
            buffers = buffers.Slice(done, buffers.Length - done);
            if (buffers.Length == 0) return;
        }
    }

    public async ValueTask WritePlainZeroesAsync(long offset, long length)
    {
        for (long end = offset + length; offset < end;)
        {
            long count = Math.Min(end - offset, MaxRunBytes);
            bool isZero;
            lock (store.Sync) isZero = image.IsKnownZero(offset, count);
            if (!isZero) await WriteAsync(offset, ScatterLists.Zeroes(count)).ConfigureAwait(false);
            offset += count;
        }
    }

    /// <summary>Forgets whole clusters. They read as zeros afterwards, or as before where the format cannot say
    /// so.</summary>
    public void Discard(long offset, long length)
    {
        if (!knowsZeroes && HasBacking) return;                    // the backing file would shine through
        if (store.Header.IsDataRaw) return;                        // who reads that file alone would see the data again
        for (long end = offset + length; offset < end; offset += _layout.ClusterSize)
        {
            if (SkipWithoutTable(ref offset)) continue;
            L2Entry old = store.Mapping.Entry(offset);
            if (!old.HasHost) continue;
            SetAndFree(offset, old, HasBacking ? PlainZero : default, punch: true);
        }
        store.LimitPendingFrees();
    }

    /// <summary>Makes whole clusters zero by their L2 entries; false where only writing zeros helps.</summary>
    /// <param name="isLasting">Also of clusters that are zero as long as nothing lies below.</param>
    public bool WriteZeroes(long offset, long length, bool mayUnmap, bool isLasting)
    {
        isLasting |= HasBacking;
        store.CheckWritable();
        if (store.Header.IsDataRaw) return false;
        if (!knowsZeroes)
        {
            if (isLasting || !mayUnmap) return false;
            Discard(offset, length);
            return true;
        }
        for (long end = offset + length; offset < end; offset += _layout.ClusterSize)
        {
            if (!isLasting && SkipWithoutTable(ref offset)) continue;
            L2Entry old = store.Mapping.Entry(offset);
            if (!old.HasHost && !isLasting) continue;
            bool keepsHost = !mayUnmap && old.HostOffset != 0 && old.IsCopied;
            SetAndFree(offset, old, keepsHost ? old with { Bitmap = AllZero } : PlainZero, punch: mayUnmap);
        }
        store.LimitPendingFrees();
        return true;
    }

    /// <summary>Allocates every cluster of the disk that holds nothing yet, in one run after the other. Under the
    /// store's lock.</summary>
    /// <param name="offset">Where a cluster begins.</param>
    public void AllocateAll(long offset = 0)
    {
        long last = 0;
        while (offset < store.Header.Size)
        {
            Allocation allocation = Allocate(offset, store.Header.Size - offset);
            if (!allocation.IsUntouched)
                ScatterLists.Wait(store.Data.WriteZeroesAsync(allocation.Host,
                    (long)allocation.Clusters << _layout.ClusterBits, mayUnmap: true));
            Link(allocation);
            last = allocation.Host + ((long)allocation.Clusters << _layout.ClusterBits);
            offset += allocation.Length;
        }
        if (last > store.Data.Length) ScatterLists.Wait(store.Data.WriteAsync(last - 1, new ScatterList(new byte[1])));
    }

    /// <summary>A guest cluster is compressed, and lies at a place in the file.</summary>
    public void SetCompressed(long offset, long place, int length) =>
        SetAndFree(offset, store.Mapping.Entry(offset), L2Entry.Compressed(place, length, _layout.ClusterBits),
            punch: false);

    /// <summary>Forgets whole clusters, so that what lies below them shines through.</summary>
    public void Drop(long offset, long length)
    {
        for (long end = offset + length; offset < end; offset += _layout.ClusterSize)
            if (!SkipWithoutTable(ref offset)) SetAndFree(offset, store.Mapping.Entry(offset), default, punch: true);
        store.LimitPendingFrees();
    }

    ulong AllZero => L2Entry.ZeroBits(0, _layout.Subclusters);
    L2Entry PlainZero => new(0, AllZero);

    /// <summary>Finds room for neighbouring clusters that a write touches and that need it.</summary>
    Allocation Allocate(long offset, long length)
    {
        store.CheckWritable();
        store.LimitPendingFrees();
        store.Mapping.WritableTable(offset);
        long first = offset - _layout.OffsetInCluster(offset);
        L2Entry old = store.Mapping.Entry(offset);
        if (old.HostOffset != 0 && old.IsCopied)                   // a preallocated zero cluster, or free subclusters
        {
            CheckIsData(old.HostOffset, _layout.ClusterSize);
            return Plan(first, offset, length, old.HostOffset, clusters: 1, isNew: false, isUntouched: false);
        }
        long run = Math.Min(length, MaxRunBytes);
        int wanted = 1;
        while (first + ((long)wanted << _layout.ClusterBits) < offset + run
               && NeedsRoom(first + ((long)wanted << _layout.ClusterBits), first)) wanted++;
        (long host, int count) = store.AllocateData(first, wanted, out bool isUntouched);
        return Plan(first, offset, length, host, count, isNew: true, isUntouched);
    }

    /// <summary>Whether a following cluster, in the same L2 table, gets a new place as well.</summary>
    bool NeedsRoom(long offset, long first)
    {
        int tableBits = _layout.ClusterBits + _layout.L2Bits;
        if (offset >> tableBits != first >> tableBits) return false;
        L2Entry entry = store.Mapping.Entry(offset);
        return entry.HostOffset == 0 || !entry.IsCopied;
    }

    Allocation Plan(long first, long offset, long length, long host, int clusters, bool isNew, bool isUntouched)
    {
        long end = Math.Min(offset + length, first + ((long)clusters << _layout.ClusterBits));
        long lastCluster = end - 1 - _layout.OffsetInCluster(end - 1);
        long copyStart = CopiesWhole(first, isNew) ? first : offset - offset % _layout.SubclusterSize;
        long copyEnd = CopiesWhole(lastCluster, isNew) ? lastCluster + _layout.ClusterSize
            : (end + _layout.SubclusterSize - 1) / _layout.SubclusterSize * _layout.SubclusterSize;
        return new Allocation(first, offset, end - offset, copyStart, copyEnd, host, clusters, isNew, isUntouched);
    }

    /// <summary>A cluster that moves takes all its data along; otherwise the subclusters touched are enough.</summary>
    bool CopiesWhole(long cluster, bool isNew) => isNew && store.Mapping.Entry(cluster).HasHost;

    /// <summary>Writes the data with what surrounds it in its clusters, and then lets the L2 table refer to
    /// it.</summary>
    async ValueTask FillAsync(Allocation allocation, ScatterList data)
    {
        int headLength = (int)(allocation.Offset - allocation.CopyStart);
        int tailLength = (int)(allocation.CopyEnd - allocation.Offset - allocation.Length);
        byte[] head = ArrayPool<byte>.Shared.Rent(headLength), tail = ArrayPool<byte>.Shared.Rent(tailLength);
        bool isWritten = false;
        try
        {
            bool isBare = allocation.IsUntouched;
            if (isBare)
                lock (store.Sync)
                    isBare = IsZeroOnDisk(allocation.CopyStart, headLength)
                        && IsZeroOnDisk(allocation.CopyEnd - tailLength, tailLength);
            if (isBare) (headLength, tailLength) = (0, 0);
            await ReadAsync(allocation.Offset - headLength, head.AsMemory(0, headLength)).ConfigureAwait(false);
            await ReadAsync(allocation.Offset + allocation.Length, tail.AsMemory(0, tailLength)).ConfigureAwait(false);
            await store.WriteDataAsync(allocation.Host + (allocation.Offset - headLength - allocation.First),
                ScatterLists.Join(head.AsMemory(0, headLength), data, tail.AsMemory(0, tailLength)))
                    .ConfigureAwait(false);
            isWritten = true;
            lock (store.Sync) Link(allocation);
        }
        // nothing refers to the new clusters yet
        catch (BlockException) when (allocation.IsNew && !isWritten && !store.HasDataFile)
        {
            lock (store.Sync)
                store.FreeNow(allocation.Host, (long)allocation.Clusters << _layout.ClusterBits, punch: false);
            throw;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(head);
            ArrayPool<byte>.Shared.Return(tail);
        }
    }

    bool IsZeroOnDisk(long offset, int length) =>
        length == 0 || offset >= store.Header.Size
            || image.IsKnownZero(offset, Math.Min(length, store.Header.Size - offset));

    /// <summary>Old contents; the rest of the last cluster lies beyond the end of the disk.</summary>
    async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        int inside = (int)Math.Clamp(store.Header.Size - offset, 0, buffer.Length);
        if (inside > 0) await image.ReadMappedAsync(offset, new ScatterList(buffer[..inside])).ConfigureAwait(false);
        buffer.Span[inside..].Clear();
    }

    void Link(Allocation allocation)
    {
        for (int i = 0; i < allocation.Clusters; i++)
        {
            long cluster = allocation.First + ((long)i << _layout.ClusterBits);
            long from = Math.Max(cluster, allocation.CopyStart),
                to = Math.Min(cluster + _layout.ClusterSize, allocation.CopyEnd);
            int subcluster = (int)((from - cluster) / _layout.SubclusterSize),
                count = (int)((to - from) / _layout.SubclusterSize);
            L2Entry old = store.Mapping.Entry(cluster);
            ulong allocated = L2Entry.AllocatedBits(subcluster, count);
            ulong bitmap = (old.Bitmap | allocated) & ~(allocated << 32);
            long host = allocation.Host + ((long)i << _layout.ClusterBits);
            var entry = new L2Entry((ulong)host | L2Entry.Copied, bitmap);
            if (allocation.IsNew) SetAndFree(cluster, old, entry, punch: false);
            else store.Mapping.SetEntry(cluster, entry);
        }
    }

    void SetAndFree(long offset, L2Entry old, L2Entry entry, bool punch)
    {
        if (old == entry) return;
        store.Mapping.SetEntry(offset, entry);
        if (old.IsCompressed)
        {
            (long start, int length) = old.CompressedRange(_layout.ClusterBits);
            store.FreeLater(start, length, punch);
        }
        else if (old.HostOffset != 0 && old.HostOffset != entry.HostOffset)
            store.FreeData(old.HostOffset, punch);
    }

    /// <summary>Nothing is allocated where there is no L2 table: moves to the last cluster that it would
    /// describe.</summary>
    bool SkipWithoutTable(ref long offset)
    {
        if (store.Mapping.HasTable(offset)) return false;
        long tableBytes = 1L << (_layout.ClusterBits + _layout.L2Bits);
        offset = offset / tableBytes * tableBytes + tableBytes - _layout.ClusterSize;
        return true;
    }

    void CheckIsData(long host, long length)
    {
        if (!store.HasDataFile && store.Map.Overlaps(host, length))
            throw store.Corrupt($"guest data at 0x{host:x} would overwrite metadata");
    }

    /// <summary>A write that needs room: guest bytes from Offset on, in clusters from First on, go to Host.</summary>
    /// <param name="CopyStart">Guest bytes from here on and up to CopyEnd are written, old ones around the new.</param>
    readonly record struct Allocation(long First, long Offset, long Length, long CopyStart, long CopyEnd, long Host,
        int Clusters, bool IsNew, bool IsUntouched);
}
