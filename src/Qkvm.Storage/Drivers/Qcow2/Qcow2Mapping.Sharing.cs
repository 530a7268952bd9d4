using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>What snapshots share with the disk.</summary>
sealed partial class Qcow2Mapping
{
    /// <summary>Every cluster that an L1 table leads to: L2 tables and what they refer to. One that is used twice comes
    /// twice.</summary>
    public IEnumerable<long> Clusters(ulong[] l1)
    {
        foreach (ClusterTable table in TablesOf(l1))
        {
            yield return table.Offset >> _layout.ClusterBits;
            for (int i = 0; i < _layout.L2Entries; i++)
            {
                L2Entry entry = Entry(table, i);
                if (!entry.HasHost) continue;
                (long start, int length) = entry.IsCompressed ? entry.CompressedRange(_layout.ClusterBits)
                    : (entry.HostOffset, _layout.ClusterSize);
                for (long cluster = start >> _layout.ClusterBits; cluster <= start + length - 1 >> _layout.ClusterBits;
                    cluster++) yield return cluster;
            }
        }
    }

    /// <summary>Tables and clusters of the disk, and whether they say that they are its alone.</summary>
    /// <returns>What a message calls the entry, the cluster, COPIED.</returns>
    public IEnumerable<(string What, long Cluster, bool IsCopied)> Ownership()
    {
        for (int i = 0; i < _l1.Length; i++)
        {
            long at = (long)(_l1[i] & L2Entry.OffsetMask);
            if (at == 0 || _layout.OffsetInCluster(at) != 0 || at >= _store.File.Length) continue;
            yield return ($"L2 cluster: l1_index={i} l1_entry={_l1[i]:x}", at >> _layout.ClusterBits,
                (_l1[i] & L2Entry.Copied) != 0);
            ClusterTable table = TableAt(at);
            for (int index = 0; index < _layout.L2Entries && !_store.HasDataFile; index++)
            {
                L2Entry entry = Entry(table, index);
                if (entry.HostOffset == 0 || _layout.OffsetInCluster(entry.HostOffset) != 0) continue;
                yield return ($"data cluster: l2_entry={Raw(table, index):x}",
                    entry.HostOffset >> _layout.ClusterBits, entry.IsCopied);
            }
        }
    }

    ulong Raw(ClusterTable table, int index) =>
        BinaryPrimitives.ReadUInt64BigEndian(table.Data.AsSpan(index * _layout.L2EntrySize));

    /// <summary>Nothing is the disk's alone any more: all is copied before it is written.</summary>
    public void ShareAll()
    {
        SetCopied(static (_, _) => false);
    }

    /// <summary>What nobody else uses is written in place.</summary>
    public void OwnAll() => SetCopied(static (store, offset) =>
        store.Refcounts.Get(offset >> store.Layout.ClusterBits) == 1);

    void SetCopied(Func<Qcow2Store, long, bool> isOurs)
    {
        for (int i = 0; i < _l1.Length; i++)
        {
            long at = (long)(_l1[i] & L2Entry.OffsetMask);
            if (at == 0) continue;
            ulong wanted = (ulong)at | (isOurs(_store, at) ? L2Entry.Copied : 0);
            if (_l1[i] != wanted) _dirtyL1.Add(i);
            _l1[i] = wanted;
        }
        foreach (ClusterTable table in TablesOf(_l1))
            for (int i = 0; i < _layout.L2Entries; i++)
            {
                L2Entry entry = Entry(table, i);
                if (entry.HostOffset == 0) continue;
                ulong descriptor = entry.Descriptor & ~L2Entry.Copied
                    | (isOurs(_store, entry.HostOffset) ? L2Entry.Copied : 0);
                if (descriptor == entry.Descriptor) continue;
                (entry with { Descriptor = descriptor })
                    .WriteTo(table.Data.AsSpan(i * _layout.L2EntrySize, _layout.L2EntrySize));
                _tables.MarkDirty(table);
            }
    }

    /// <summary>The L2 tables that an L1 table names.</summary>
    IEnumerable<ClusterTable> TablesOf(ulong[] l1)
    {
        long left = _store.File.Length >> _layout.ClusterBits;     // each has its own place
        foreach (ulong entry in l1)
        {
            if ((entry & L2Entry.OffsetMask) == 0) continue;
            if (left-- <= 0) throw _store.Corrupt("an L1 table names one L2 table again and again");
            yield return TableAt((long)(entry & L2Entry.OffsetMask));
        }
    }
}
