using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Counts get another width.</summary>
sealed partial class Qcow2Refcounts
{
    /// <summary>Builds a second table with blocks of the other width, behind all that is in use, to which the header
    /// then turns. Nothing is changed before.</summary>
    /// <param name="order">Of the bits of a count: 4 for 16.</param>
    /// <param name="turn">Writes the header, with the order and the table that it has by then.</param>
    public void ChangeWidth(int order, Action turn)
    {
        int bits = _layout.ClusterBits + 3 - order;
        ulong most = order == 6 ? ulong.MaxValue : (1UL << (1 << order)) - 1;
        var old = new SortedDictionary<long, ulong[]>();           // counts, by new block
        long first = ClusterAfter(_store.File.Length);
        for (long block = 0; block < _table.Length; block++)
            for (long i = 0; _table[block] != 0 && i < _layout.RefcountsPerBlock; i++)
            {
                long cluster = (block << _layout.RefcountBlockBits) + i;
                ulong count = Get(cluster);
                if (count == 0 || IsOwn(cluster)) continue;
                if (count > most)
                    throw new BlockException($"Cannot decrease refcount entry width to {1 << order} bits: Cluster at "
                        + $"offset 0x{cluster << _layout.ClusterBits:x} has a refcount of {count}", Errno.Inval);
                Counts(cluster)[cluster & ((1L << bits) - 1)] = count;
                first = Math.Max(first, cluster + 1);
            }
        long tableClusters = 1, end = 0;
        for (long size = -1; size != end;)                         // what describes them grows with them
        {
            size = end;
            end = first + old.Count + tableClusters;
            for (long cluster = first; cluster < end; cluster++) Counts(cluster);
            tableClusters = ((old.Keys.Last() + 1) * 8 + _layout.ClusterSize - 1) >> _layout.ClusterBits;
            end = first + old.Count + tableClusters;
        }
        for (long cluster = first; cluster < end; cluster++) Counts(cluster)[cluster & ((1L << bits) - 1)] = 1;

        (ulong[] oldTable, long oldOffset, int oldClusters) = (_table, _store.Header.RefcountTableOffset,
            _store.Header.RefcountTableClusters);
        int oldOrder = _layout.RefcountOrder;
        try
        {
            _layout.RefcountOrder = order;
            WriteAll(old, first, tableClusters);
            (_store.Header.RefcountOrder, _store.Header.RefcountTableOffset, _store.Header.RefcountTableClusters) =
                (order, (first + old.Count) << _layout.ClusterBits, (int)tableClusters);
            turn();
        }
        catch (BlockException)
        {
            (_layout.RefcountOrder, _table) = (oldOrder, oldTable);
            (_store.Header.RefcountOrder, _store.Header.RefcountTableOffset, _store.Header.RefcountTableClusters) =
                (oldOrder, oldOffset, oldClusters);
            throw;
        }
        foreach (ulong block in oldTable)
        {
            _blocks.Forget((long)block);
            if (block != 0) _store.Map.RemoveTable((long)block >> _layout.ClusterBits);
        }
        _store.Map.RemoveRegion(oldOffset, (long)oldClusters << _layout.ClusterBits);
        _store.Map.AddRegion(_store.Header.RefcountTableOffset, tableClusters << _layout.ClusterBits);
        foreach (ulong block in _table) if (block != 0) _store.Map.AddTable((long)block);
        (_cursor, _untouched) = (0, _store.CanGrow ? ClusterAfter(_store.File.Length) : long.MaxValue);

        ulong[] Counts(long cluster)
        {
            if (!old.TryGetValue(cluster >> bits, out ulong[]? counts))
                old[cluster >> bits] = counts = new ulong[1 << bits];
            return counts;
        }
    }

    /// <summary>It is of the table that goes.</summary>
    bool IsOwn(long cluster)
    {
        long table = _store.Header.RefcountTableOffset >> _layout.ClusterBits;
        return (cluster >= table && cluster < table + _store.Header.RefcountTableClusters)
            || (cluster != 0 && Array.IndexOf(_table, (ulong)cluster << _layout.ClusterBits) >= 0);
    }

    /// <summary>Blocks, and behind them their table, which becomes the one in memory.</summary>
    void WriteAll(SortedDictionary<long, ulong[]> counts, long first, long tableClusters)
    {
        var table = new ulong[(tableClusters << _layout.ClusterBits) / 8];
        var block = new byte[_layout.ClusterSize];
        long at = first << _layout.ClusterBits;
        foreach ((long index, ulong[] values) in counts)
        {
            for (int i = 0; i < values.Length; i++) Write(block, i, values[i]);
            _store.Write(at, block);
            table[index] = (ulong)at;
            at += _layout.ClusterSize;
        }
        var raw = new byte[table.Length * 8];
        for (int i = 0; i < table.Length; i++) BinaryPrimitives.WriteUInt64BigEndian(raw.AsSpan(i * 8), table[i]);
        _store.Write(at, raw);
        _store.FlushFile();
        _table = table;
    }
}
