using System.Buffers.Binary;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Where guest clusters lie: the L1 table in memory, L2 tables through a cache.</summary>
sealed partial class Qcow2Mapping
{
    const long MaxCacheBytes = 32 << 20;

    readonly Qcow2Store _store;
    readonly Qcow2Layout _layout;
    readonly ClusterTableCache _tables;
    readonly HashSet<int> _dirtyL1 = [];
    ulong[] _l1 = [];

    public Qcow2Mapping(Qcow2Store store)
    {
        _store = store;
        _layout = store.Layout;
        _tables = new ClusterTableCache(store.File, _layout.ClusterSize, MaxCacheBytes, store.WriteBack);
    }

    public bool HasDirty => _tables.HasDirty || _dirtyL1.Count > 0;

    public ReadOnlySpan<ulong> L1 => _l1;

    public void Load() => _l1 = ReadL1(_store.Header.L1Offset, _store.Header.L1Entries);

    /// <summary>The table with more entries, none of which refers to anything.</summary>
    public ulong[] GrowL1(int entries)
    {
        Array.Resize(ref _l1, entries);
        return _l1;
    }

    /// <summary>Another table, which is on disk as it is.</summary>
    public void Replace(ulong[] l1)
    {
        _l1 = l1;
        _dirtyL1.Clear();
    }

    /// <summary>Registers the L2 tables as metadata; false where one lies on something else.</summary>
    public bool AddTables()
    {
        bool isSound = true;
        foreach (ulong entry in _l1)
        {
            if ((entry & L2Entry.OffsetMask) == 0) continue;
            bool isNew = _store.Map.AddTable((long)(entry & L2Entry.OffsetMask));
            isSound &= isNew || (entry & L2Entry.Copied) == 0;     // two may share one as long as neither owns it
        }
        return isSound;
    }

    public ulong[] ReadL1(long offset, int entries)
    {
        var raw = new byte[entries * 8];
        _store.Read(offset, raw);
        var l1 = new ulong[entries];
        for (int i = 0; i < entries; i++) l1[i] = BinaryPrimitives.ReadUInt64BigEndian(raw.AsSpan(i * 8));
        return l1;
    }

    /// <summary>Whether <see cref="Find"/> answers from memory.</summary>
    public bool IsLoaded(long offset)
    {
        long at = (long)(_l1[L1Index(offset)] & L2Entry.OffsetMask);
        return at == 0 || _tables.Holds(at);
    }

    /// <summary>The longest run from an offset on that is of one kind and lies together, within one L2 table.</summary>
    public Extent Find(long offset, long length)
    {
        ClusterTable? table = Table(offset);
        int index = IndexOf(offset), subcluster = (int)(_layout.OffsetInCluster(offset) / _layout.SubclusterSize);
        long inTable = ((long)(_layout.L2Entries - index) << _layout.ClusterBits) - _layout.OffsetInCluster(offset);
        length = Math.Min(length, inTable);
        if (table == null) return new Extent(ExtentKind.Unallocated, length, 0, default);

        L2Entry first = Entry(table, index);
        ExtentKind kind = KindOf(first, subcluster, offset);
        long host = first.HostOffset + _layout.OffsetInCluster(offset);
        long found = Math.Min(length, _layout.SubclusterSize - offset % _layout.SubclusterSize);
        if (kind == ExtentKind.Compressed)
            return new Extent(kind, Math.Min(length, _layout.ClusterSize - _layout.OffsetInCluster(offset)), 0, first);
        L2Entry entry = first;
        while (found < length)
        {
            if (++subcluster == _layout.Subclusters)
            {
                entry = Entry(table, ++index);
                subcluster = 0;
                if (kind == ExtentKind.Data && (entry.HostOffset != host + found || entry.IsCopied != first.IsCopied))
                    break;
            }
            if (entry.Kind(subcluster) != kind) break;
            found = Math.Min(length, found + _layout.SubclusterSize);
        }
        return new Extent(kind, found, host, first);
    }

    /// <summary>The entry of a guest cluster.</summary>
    public L2Entry Entry(long offset)
    {
        if (Table(offset) is not { } table) return default;
        L2Entry entry = Entry(table, IndexOf(offset));
        for (int i = 0; i < _layout.Subclusters; i++) KindOf(entry, i, offset);
        return entry;
    }

    public bool HasTable(long offset) => (_l1[L1Index(offset)] & L2Entry.OffsetMask) != 0;

    public void SetEntry(long offset, L2Entry entry)
    {
        ClusterTable table = WritableTable(offset);
        entry.WriteTo(table.Data.AsSpan(IndexOf(offset) * _layout.L2EntrySize, _layout.L2EntrySize));
        _tables.MarkDirty(table);
    }

    /// <summary>The L2 table as one that may be changed: a new one where there is none, a copy where it is
    /// shared.</summary>
    public ClusterTable WritableTable(long offset)
    {
        _store.CheckWritable();
        int index = L1Index(offset);
        ulong old = _l1[index];
        if ((old & L2Entry.Copied) != 0 && (old & L2Entry.OffsetMask) != 0) return Table(offset)!;
        ClusterTable? source = Table(offset);
        (long home, _) = _store.Refcounts.Allocate(1, out _);
        var table = new ClusterTable(home, source != null ? [.. source.Data]
            : new byte[_layout.ClusterSize]) { IsDirty = true };
        _store.Map.AddTable(home);
        _tables.Add(table);
        _l1[index] = (ulong)home | L2Entry.Copied;
        _dirtyL1.Add(index);
        if (source != null) _store.FreeLater(source.Offset, _layout.ClusterSize, punch: false);
        return table;
    }

    public void WriteTables() => _tables.Write();

    public void WriteL1()
    {
        var field = new byte[8];
        while (_dirtyL1.Count > 0)
        {
            int index = _dirtyL1.First();
            BinaryPrimitives.WriteUInt64BigEndian(field, _l1[index]);
            _store.Write(_store.Header.L1Offset + index * 8L, field);
            _dirtyL1.Remove(index);
        }
    }

    public void Forget(long offset) => _tables.Forget(offset);

    int L1Index(long offset) => (int)(offset >> (_layout.ClusterBits + _layout.L2Bits));

    int IndexOf(long offset) => (int)(offset >> _layout.ClusterBits) & (_layout.L2Entries - 1);

    L2Entry Entry(ClusterTable table, int index) =>
        L2Entry.ReadFrom(table.Data.AsSpan(index * _layout.L2EntrySize, _layout.L2EntrySize), _store.HasDataFile);

    ClusterTable? Table(long offset)
    {
        long at = (long)(_l1[L1Index(offset)] & L2Entry.OffsetMask);
        return at == 0 ? null : TableAt(at);
    }

    ClusterTable TableAt(long at)
    {
        if (_layout.OffsetInCluster(at) != 0)
            throw _store.Corrupt($"the L2 table at 0x{at:x} is not at the start of a cluster");
        if (at > _store.File.Length - _layout.ClusterSize && !_tables.Holds(at))
            throw _store.Corrupt($"the L2 table at 0x{at:x} lies beyond the end of the file");
        return _tables.Get(at);
    }

    /// <summary>The kind, after checks that the entry is possible.</summary>
    ExtentKind KindOf(L2Entry entry, int subcluster, long offset)
    {
        ExtentKind kind = entry.Kind(subcluster);
        if (kind == ExtentKind.Invalid || (kind == ExtentKind.Data && entry.HostOffset == 0 && !_store.HasDataFile))
            throw _store.Corrupt($"the L2 entry for guest offset 0x{offset:x} contradicts itself");
        if (_layout.OffsetInCluster(entry.HostOffset) != 0)
            throw _store.Corrupt($"the data cluster 0x{entry.HostOffset:x} for guest offset 0x{offset:x} is not at " +
                "the start of a cluster");
        if (kind == ExtentKind.Zero && _store.Header.Version == 2)
            throw _store.Corrupt($"guest offset 0x{offset:x} has a zero cluster, which version 2 does not know");
        return kind;
    }
}
