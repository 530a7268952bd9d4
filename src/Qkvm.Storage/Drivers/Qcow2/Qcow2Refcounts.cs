using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>How often each cluster of the file is used. Spec: QEMU docs/interop/qcow2.txt, "Host cluster
/// management".</summary>
sealed partial class Qcow2Refcounts
{
    const long MaxCacheBytes = 4 << 20;
    const ulong OffsetMask = ~511UL;

    readonly Qcow2Store _store;
    readonly Qcow2Layout _layout;
    readonly ClusterTableCache _blocks;
    ulong[] _table = [];
    long _cursor;                                                  // no free cluster is known before it
    long _untouched;                                               // nothing was ever written from here on

    public Qcow2Refcounts(Qcow2Store store)
    {
        _store = store;
        _layout = store.Layout;
        _blocks = new ClusterTableCache(store.File, _layout.ClusterSize, MaxCacheBytes, WriteBlocks);
    }

    /// <summary>False where the table contradicts itself.</summary>
    public bool Load()
    {
        Qcow2Header header = _store.Header;
        long bytes = (long)header.RefcountTableClusters << _layout.ClusterBits;
        bool isSound = header.RefcountTableOffset != 0 && _store.Map.AddRegion(header.RefcountTableOffset, bytes);
        var raw = new byte[bytes];
        _store.Read(header.RefcountTableOffset, raw);
        _table = new ulong[bytes / 8];
        for (int i = 0; i < _table.Length; i++)
        {
            _table[i] = BinaryPrimitives.ReadUInt64BigEndian(raw.AsSpan(i * 8)) & OffsetMask;
            if (_table[i] == 0) continue;
            isSound &= _layout.OffsetInCluster((long)_table[i]) == 0
                && _table[i] <= (ulong)Math.Max(0, _store.File.Length - _layout.ClusterSize)
                       && _store.Map.AddTable((long)_table[i]);
        }
        _untouched = _store.CanGrow ? ClusterAfter(_store.File.Length) : long.MaxValue;
        return isSound;
    }

    public ulong Get(long cluster)
    {
        long block = cluster >> _layout.RefcountBlockBits;
        if (block >= _table.Length || _table[block] == 0) return 0;
        return Read(_blocks.Get((long)_table[block]).Data, (int)(cluster & (_layout.RefcountsPerBlock - 1)));
    }

    /// <summary>Sets a refcount whose block exists.</summary>
    public void Set(long cluster, ulong value)
    {
        ClusterTable block = _blocks.Get((long)_table[cluster >> _layout.RefcountBlockBits]);
        Write(block.Data, (int)(cluster & (_layout.RefcountsPerBlock - 1)), value);
        _blocks.MarkDirty(block);
    }

    public bool HasBlock(long cluster) =>
        cluster >> _layout.RefcountBlockBits is long block && block < _table.Length && _table[block] != 0;

    public ulong MaxRefcount => _layout.RefcountOrder == 6 ? ulong.MaxValue : (1UL << (1 << _layout.RefcountOrder)) - 1;

    public ReadOnlySpan<ulong> Table => _table;

    /// <summary>Takes up to as many neighbouring clusters as wanted, at least one.</summary>
    /// <param name="isUntouched">They read as zeros: nothing was ever written there.</param>
    public (long Offset, int Count) Allocate(int wanted, out bool isUntouched)
    {
        _store.CheckWritable();
        long first = FindFree();
        int count = 1;
        while (count < wanted && HasBlock(first + count) && IsInside(first + count) && Get(first + count) == 0) count++;
        for (int i = 0; i < count; i++)
        {
            if (_store.Map.Contains(first + i))
                throw _store.Corrupt($"cluster {first + i} holds metadata and has refcount 0");
            Set(first + i, 1);
        }
        _cursor = first + count;
        isUntouched = first >= _untouched;
        _untouched = Math.Max(_untouched, _cursor);
        return (first << _layout.ClusterBits, count);
    }

    /// <summary>Another user of a cluster can be counted.</summary>
    public bool CanIncrease(long cluster) => Get(cluster) is > 0 and var count && count < MaxRefcount;

    /// <summary>Counts another user of a cluster that is in use.</summary>
    public void Increase(long cluster) => Set(cluster, Get(cluster) + 1);

    /// <summary>True where nothing uses the cluster any more.</summary>
    public bool Decrease(long cluster)
    {
        ulong count = Get(cluster);
        if (count == 0) throw _store.Corrupt($"cluster {cluster} is in use and has refcount 0");
        Set(cluster, count - 1);
        if (count > 1) return false;
        _cursor = Math.Min(_cursor, cluster);
        return true;
    }

    public bool HasDirty => _blocks.HasDirty;

    public void WriteBlocks() => _blocks.Write();

    /// <summary>Makes sure that there is a refcount block for a cluster. A new one lies at the start of what it
    /// describes: nothing there was in use.</summary>
    public void EnsureBlock(long cluster)
    {
        long index = cluster >> _layout.RefcountBlockBits;
        while (index >= _table.Length) GrowTable(index);
        if (_table[index] != 0) return;
        long home = index << _layout.RefcountBlockBits, offset = home << _layout.ClusterBits;
        if (!IsInside(home)) throw NoSpace();
        if (_store.Map.Contains(home)) throw _store.Corrupt($"cluster {home} holds metadata and has no refcount");
        var block = new byte[_layout.ClusterSize];
        Write(block, 0, 1);
        _store.Write(offset, block);
        _store.FlushFile();
        WriteEntry(index, (ulong)offset);
        _table[index] = (ulong)offset;
        _store.Map.AddTable(offset);
        _blocks.Add(new ClusterTable(offset, block));
        _untouched = Math.Max(_untouched, home + 1);
    }

    long FindFree()
    {
        for (long cluster = _cursor; ; cluster++)
        {
            if (!IsInside(cluster)) throw NoSpace();
            EnsureBlock(cluster);
            if (Get(cluster) == 0) return cluster;
        }
    }

    /// <summary>Builds a larger table and the blocks that describe it and themselves, just beyond what the old one
    /// covers, then turns the header over to it.</summary>
    void GrowTable(long index)
    {
        long perBlock = _layout.RefcountsPerBlock, first = _table.Length * perBlock, blocks = 1, tableClusters;
        while (true)
        {
            long entries = Math.Max(Math.Max(index + 1, _table.Length + blocks), _table.Length * 3L / 2);
            tableClusters = (entries * 8 + _layout.ClusterSize - 1) >> _layout.ClusterBits;
            long needed = (tableClusters + blocks + perBlock - 1) / perBlock;
            if (needed <= blocks) break;
            blocks = needed;
        }
        if (tableClusters << _layout.ClusterBits > Qcow2Header.MaxRefcountTableBytes)
            throw new BlockException($"{_store.Name}: the image cannot grow: its refcount table is full", Errno.FBig);
        long end = first + blocks + tableClusters;
        if (!IsInside(end - 1)) throw NoSpace();
        if (_store.Map.Overlaps(first << _layout.ClusterBits, (end - first) << _layout.ClusterBits))
            throw _store.Corrupt("there is metadata beyond the refcount table");

        var table = new ulong[(tableClusters << _layout.ClusterBits) / 8];
        _table.CopyTo(table, 0);
        for (long b = 0; b < blocks; b++)
        {
            long offset = (first + b) << _layout.ClusterBits;
            var block = new byte[_layout.ClusterSize];
            for (long i = b * perBlock; i < Math.Min((b + 1) * perBlock, end - first); i++)
                Write(block, (int)(i - b * perBlock), 1);
            _store.Write(offset, block);
            table[_table.Length + b] = (ulong)offset;
        }
        var raw = new byte[table.Length * 8];
        for (int i = 0; i < table.Length; i++) BinaryPrimitives.WriteUInt64BigEndian(raw.AsSpan(i * 8), table[i]);
        long tableOffset = (first + blocks) << _layout.ClusterBits;
        _store.Write(tableOffset, raw);
        _store.FlushFile();
        SwitchTo(table, tableOffset, (int)tableClusters);
        for (long b = 0; b < blocks; b++) _store.Map.AddTable((first + b) << _layout.ClusterBits);
        _untouched = Math.Max(_untouched, end);
    }

    void SwitchTo(ulong[] table, long offset, int clusters)
    {
        Qcow2Header header = _store.Header;
        (long oldOffset, int oldClusters) = (header.RefcountTableOffset, header.RefcountTableClusters);
        (header.RefcountTableOffset, header.RefcountTableClusters) = (offset, clusters);
        var field = new byte[12];
        header.WriteRefcountTable(field);
        try { _store.Write(Qcow2Header.RefcountTableAt, field); }
        catch (BlockException)
        {
            (header.RefcountTableOffset, header.RefcountTableClusters) = (oldOffset, oldClusters);
            throw;
        }
        _store.FlushFile();
        _table = table;
        _store.Map.RemoveRegion(oldOffset, (long)oldClusters << _layout.ClusterBits);
        _store.Map.AddRegion(offset, (long)clusters << _layout.ClusterBits);
        _store.FreeNow(oldOffset, (long)oldClusters << _layout.ClusterBits, punch: false);
    }

    void WriteEntry(long index, ulong offset)
    {
        var field = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(field, offset);
        _store.Write(_store.Header.RefcountTableOffset + index * 8, field);
    }

    /// <summary>Offsets have 56 bits, and a device its size.</summary>
    bool IsInside(long cluster) =>
        cluster + 1 <= (_store.CanGrow ? 1L << 56 : _store.File.Length) >> _layout.ClusterBits;

    BlockException NoSpace() => new($"{_store.Name}: no space is left for the image", Errno.NoSpc);

    long ClusterAfter(long bytes) => (bytes + _layout.ClusterSize - 1) >> _layout.ClusterBits;

    /// <summary>Widths below a byte start at the least significant bit.</summary>
    ulong Read(ReadOnlySpan<byte> block, int index) => _layout.RefcountOrder switch
    {
        3 => block[index],
        4 => BinaryPrimitives.ReadUInt16BigEndian(block[(index * 2)..]),
        5 => BinaryPrimitives.ReadUInt32BigEndian(block[(index * 4)..]),
        6 => BinaryPrimitives.ReadUInt64BigEndian(block[(index * 8)..]),
        int order => (ulong)block[index << order >> 3] >> ((index << order) & 7) & ((1u << (1 << order)) - 1),
    };

    void Write(Span<byte> block, int index, ulong value)
    {
        switch (_layout.RefcountOrder)
        {
            case 3: block[index] = (byte)value; break;
            case 4: BinaryPrimitives.WriteUInt16BigEndian(block[(index * 2)..], (ushort)value); break;
            case 5: BinaryPrimitives.WriteUInt32BigEndian(block[(index * 4)..], (uint)value); break;
            case 6: BinaryPrimitives.WriteUInt64BigEndian(block[(index * 8)..], value); break;
            case int order:
                int shift = (index << order) & 7;
                uint mask = ((1u << (1 << order)) - 1) << shift;
                ref byte holder = ref block[index << order >> 3];
                holder = (byte)((holder & ~mask) | ((uint)value << shift & mask));
                break;
        }
    }
}
