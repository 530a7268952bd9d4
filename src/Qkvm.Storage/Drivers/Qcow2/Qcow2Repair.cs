using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Counts anew what an image with lazy refcounts left uncounted when it was not closed cleanly.</summary>
sealed class Qcow2Repair
{
    readonly Qcow2Store _store;
    readonly Qcow2Layout _layout;
    readonly Dictionary<long, uint[]> _counts = [];                // per refcount block

    Qcow2Repair(Qcow2Store store) => (_store, _layout) = (store, store.Layout);

    public static void RebuildRefcounts(Qcow2Store store)
    {
        var repair = new Qcow2Repair(store);
        repair.CountAll();
        repair.Apply();
    }

    void CountAll()
    {
        Qcow2Header header = _store.Header;
        Count(0, 1);
        Count(header.RefcountTableOffset, (long)header.RefcountTableClusters << _layout.ClusterBits);
        foreach (ulong block in _store.Refcounts.Table) if (block != 0) Count((long)block, 1);
        Count(header.L1Offset, header.L1Entries * 8L);
        CountTables(_store.Mapping.L1);
        long snapshotBytes = 0;
        foreach (Qcow2Snapshot snapshot in _store.Snapshots)
        {
            snapshotBytes += snapshot.PaddedSize;
            Count(snapshot.L1Offset, snapshot.L1Entries * 8L);
            CountTables(_store.Mapping.ReadL1(snapshot.L1Offset, snapshot.L1Entries));
        }
        Count(header.SnapshotsOffset, snapshotBytes);
    }

    void CountTables(ReadOnlySpan<ulong> l1)
    {
        var table = new byte[_layout.ClusterSize];
        long tablesLeft = _store.File.Length >> _layout.ClusterBits; // each has its own place
        foreach (ulong entry in l1)
        {
            long offset = (long)(entry & L2Entry.OffsetMask);
            if (offset == 0) continue;
            if (tablesLeft-- == 0) throw Hopeless("its L1 table names one L2 table again and again");
            Count(offset, _layout.ClusterSize);
            _store.Read(offset, table);
            for (int at = 0; at < table.Length; at += _layout.L2EntrySize)
            {
                L2Entry cluster = L2Entry.ReadFrom(table.AsSpan(at, _layout.L2EntrySize));
                if (cluster.IsCompressed)
                {
                    (long start, int length) = cluster.CompressedRange(_layout.ClusterBits);
                    Count(start, length);
                }
                else if (cluster.HostOffset != 0) Count(cluster.HostOffset, _layout.ClusterSize);
            }
        }
    }

    void Count(long offset, long length)
    {
        if (length == 0) return;
        for (long cluster = offset >> _layout.ClusterBits; cluster <= (offset + length - 1) >> _layout.ClusterBits;
            cluster++)
        {
            if (cluster << _layout.ClusterBits >= _store.File.Length)
                throw Hopeless($"cluster {cluster} is in use beyond the end of the file");
            long block = cluster >> _layout.RefcountBlockBits;
            if (!_counts.TryGetValue(block, out uint[]? counts))
                _counts[block] = counts = new uint[_layout.RefcountsPerBlock];
            if (++counts[cluster & (_layout.RefcountsPerBlock - 1)] > _store.Refcounts.MaxRefcount)
                throw Hopeless($"cluster {cluster} is used more often than its refcount can say");
        }
    }

    void Apply()
    {
        foreach ((long block, uint[] counts) in _counts)
            if (_store.Refcounts.HasBlock(block << _layout.RefcountBlockBits)) ApplyBlock(block, counts);
            else if (counts[0] != 0) throw Hopeless("a refcount block is missing");
            else
            {
                _store.Refcounts.EnsureBlock(block << _layout.RefcountBlockBits);
                counts[0] = 1;
                ApplyBlock(block, counts);
            }
    }

    void ApplyBlock(long block, uint[] counts)
    {
        for (int i = 0; i < counts.Length; i++)
        {
            long cluster = (block << _layout.RefcountBlockBits) + i;
            if (_store.Refcounts.Get(cluster) != counts[i]) _store.Refcounts.Set(cluster, counts[i]);
        }
    }

    BlockException Hopeless(string what) =>
        new($"it was not closed cleanly, and {what}; run qemu-img check -r all", Errno.Io);
}
