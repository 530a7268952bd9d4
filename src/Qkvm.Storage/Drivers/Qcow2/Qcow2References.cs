using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>How often each cluster of the file is really used, found by following all tables. Spec: QEMU
/// docs/interop/qcow2.txt.</summary>
/// <param name="problem">Takes what cannot be followed: the table's place and what is wrong.</param>
sealed class Qcow2References(Qcow2Store store, Qcow2Extensions extensions, Action<string> problem)
{
    const long MaxBytes = 1L << 30;                                // of counts: a hostile image names far places

    readonly Qcow2Layout _layout = store.Layout;
    readonly Dictionary<long, uint[]> _counts = [];                // per refcount block
    long _next;                                                    // where the last cluster ended

    /// <summary>Refcount blocks that would describe something.</summary>
    public IEnumerable<long> Blocks => _counts.Keys;

    // of the disk as it is now
    public long Allocated { get; private set; }
    public long Fragmented { get; private set; }
    public long Compressed { get; private set; }

    public uint this[long cluster] => _counts.TryGetValue(cluster >> _layout.RefcountBlockBits, out uint[]? counts)
        ? counts[cluster & (_layout.RefcountsPerBlock - 1)] : 0;

    /// <summary>A refcount block at the start of what it describes, which is new.</summary>
    public void SetOwnBlock(long block) => _counts[block][0] = 1;

    public void CountAll()
    {
        Qcow2Header header = store.Header;
        Count(0, 1);
        Count(header.RefcountTableOffset, (long)header.RefcountTableClusters << _layout.ClusterBits);
        int index = 0;
        foreach (ulong block in store.Refcounts.Table)
        {
            if (block != 0 && _layout.OffsetInCluster((long)block) != 0)
                problem($"ERROR refcount block {index} is not cluster aligned; refcount table entry corrupted");
            else if (block != 0) Count((long)block, 1);
            index++;
        }
        Count(header.L1Offset, header.L1Entries * 8L);
        CountTables(store.Mapping.L1, isNow: true);
        long snapshotBytes = 0;
        foreach (Qcow2Snapshot snapshot in store.Snapshots)
        {
            snapshotBytes += snapshot.PaddedSize;
            Count(snapshot.L1Offset, snapshot.L1Entries * 8L);
            CountTables(store.Mapping.ReadL1(snapshot.L1Offset, snapshot.L1Entries), isNow: false);
        }
        Count(header.SnapshotsOffset, snapshotBytes);
        if (extensions.CryptoHeader is { } crypto) Count(crypto.Offset, crypto.Length);
        foreach ((long offset, long length) in Qcow2BitmapDirectory.Clusters(store, extensions)) Count(offset, length);
    }

    void CountTables(ReadOnlySpan<ulong> l1, bool isNow)
    {
        var table = new byte[_layout.ClusterSize];
        long tablesLeft = store.File.Length / _layout.ClusterSize + 1; // each has its own place
        foreach (ulong entry in l1)
        {
            long offset = (long)(entry & L2Entry.OffsetMask);
            if (offset == 0) continue;
            if (_layout.OffsetInCluster(offset) != 0)
            {
                problem($"ERROR l2_offset={offset:x}: Table is not cluster aligned; L1 entry corrupted");
                continue;
            }
            if (tablesLeft-- == 0)
            {
                problem("ERROR an L1 table names one L2 table again and again");
                return;
            }
            if (!Count(offset, _layout.ClusterSize)) continue;
            store.Read(offset, table);
            for (int at = 0; at < table.Length; at += _layout.L2EntrySize)
                CountEntry(L2Entry.ReadFrom(table.AsSpan(at, _layout.L2EntrySize)), isNow);
        }
    }

    void CountEntry(L2Entry entry, bool isNow)
    {
        if (entry.IsCompressed)
        {
            (long start, int length) = entry.CompressedRange(_layout.ClusterBits);
            Count(start, length);
            if (!isNow) return;
            Allocated++;
            Compressed++;
            Fragmented++;                                          // by its nature
            return;
        }
        if (entry.HostOffset == 0) return;
        if (isNow)
        {
            Allocated++;
            if (_next != 0 && entry.HostOffset != _next) Fragmented++;
            _next = entry.HostOffset + _layout.ClusterSize;
        }
        if (_layout.OffsetInCluster(entry.HostOffset) != 0)
            problem($"ERROR offset={entry.HostOffset:x}: Cluster is not properly aligned; L2 entry corrupted.");
        else if (!store.HasDataFile) Count(entry.HostOffset, _layout.ClusterSize);
    }

    /// <summary>False where it lies beyond the end of the file.</summary>
    bool Count(long offset, long length)
    {
        if (length == 0) return true;
        if (length < 0 || offset > long.MaxValue - length) (offset, length) = (long.MaxValue - 1, 1); // beyond any end
        for (long cluster = offset >> _layout.ClusterBits; cluster <= (offset + length - 1) >> _layout.ClusterBits;
            cluster++)
        {
            if (cluster < 0 || cluster >= (store.File.Length + _layout.ClusterSize - 1) >> _layout.ClusterBits)
            {
                problem("ERROR: counting reference for region exceeding the end of the file by one cluster or more: "
                    + $"offset 0x{offset:x} size 0x{length:x}");
                return false;
            }
            long block = cluster >> _layout.RefcountBlockBits;
            if (!_counts.TryGetValue(block, out uint[]? counts))
            {
                if (_counts.Count * _layout.RefcountsPerBlock * sizeof(uint) > MaxBytes)
                    throw new BlockException($"{store.Name}: its tables name places too far apart", Errno.FBig);
                _counts[block] = counts = new uint[_layout.RefcountsPerBlock];
            }
            counts[cluster & (_layout.RefcountsPerBlock - 1)]++;
        }
        return true;
    }
}
