using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>An L2 table or refcount block in memory, in the form that it has on disk.</summary>
sealed class ClusterTable(long offset, byte[] data)
{
    public long Offset { get; } = offset;
    public byte[] Data { get; } = data;
    public bool IsDirty { get; set; }
}

/// <summary>The least recently used tables go first. Evicting a changed one writes all changes in their safe
/// order.</summary>
/// <param name="writeBack">Writes every changed table; called where room is needed.</param>
sealed class ClusterTableCache(BlockDriver file, int clusterSize, long maxBytes, Action writeBack)
{
    readonly int _capacity = (int)Math.Max(4, maxBytes / clusterSize);
    readonly Dictionary<long, LinkedListNode<ClusterTable>> _tables = [];
    readonly LinkedList<ClusterTable> _recent = [];                // most recently used first
    readonly List<ClusterTable> _dirty = [];

    public bool HasDirty => _dirty.Count > 0;

    public IReadOnlyList<ClusterTable> Dirty => _dirty;

    public bool Holds(long offset) => _tables.ContainsKey(offset);

    public ClusterTable Get(long offset) => Get(offset, clusterSize);

    /// <param name="length">Bytes, where it is shorter than the others.</param>
    public ClusterTable Get(long offset, int length)
    {
        if (_tables.TryGetValue(offset, out LinkedListNode<ClusterTable>? known))
        {
            if (_recent.First != known)
            {
                _recent.Remove(known);
                _recent.AddFirst(known);
            }
            return known.Value;
        }
        var table = new ClusterTable(offset, new byte[length]);
        ScatterLists.Wait(file.ReadAsync(offset, new ScatterList(table.Data)));
        Add(table);
        return table;
    }

    public void Add(ClusterTable table)
    {
        if (_tables.Count >= _capacity) Evict();
        _tables[table.Offset] = _recent.AddFirst(table);
        if (table.IsDirty) _dirty.Add(table);
    }

    public void MarkDirty(ClusterTable table)
    {
        if (table.IsDirty) return;
        table.IsDirty = true;
        _dirty.Add(table);
    }

    /// <summary>The cluster has become something else.</summary>
    public void Forget(long offset)
    {
        if (!_tables.Remove(offset, out LinkedListNode<ClusterTable>? node)) return;
        _recent.Remove(node);
        if (node.Value.IsDirty) _dirty.Remove(node.Value);
    }

    /// <summary>Writes what changed; what fails stays changed, so that a later attempt writes it.</summary>
    public void Write()
    {
        while (_dirty.Count > 0)
        {
            ClusterTable table = _dirty[^1];
            ScatterLists.Wait(file.WriteAsync(table.Offset, new ScatterList(table.Data)));
            table.IsDirty = false;
            _dirty.RemoveAt(_dirty.Count - 1);
        }
    }

    /// <summary>Somebody else has written what changed.</summary>
    public void Written()
    {
        foreach (ClusterTable table in _dirty) table.IsDirty = false;
        _dirty.Clear();
    }

    void Evict()
    {
        if (_recent.Last!.Value.IsDirty) writeBack();
        _tables.Remove(_recent.Last!.Value.Offset);
        _recent.RemoveLast();
    }
}
