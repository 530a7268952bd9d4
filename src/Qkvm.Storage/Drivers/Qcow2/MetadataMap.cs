namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>The clusters of the file that hold metadata: no guest data may ever be written there.</summary>
sealed class MetadataMap(int clusterBits)
{
    readonly List<(long First, long End)> _regions = [];           // sorted, apart
    readonly HashSet<long> _tables = [];                           // L2 tables and refcount blocks

    public bool Contains(long cluster) => _tables.Contains(cluster) || InRegion(cluster);

    public bool Overlaps(long offset, long length)
    {
        for (long cluster = offset >> clusterBits; cluster <= (offset + length - 1) >> clusterBits; cluster++)
            if (Contains(cluster)) return true;
        return false;
    }

    /// <summary>False where another table or region has the cluster.</summary>
    public bool AddTable(long offset) => !InRegion(offset >> clusterBits) && _tables.Add(offset >> clusterBits);

    public void RemoveTable(long cluster) => _tables.Remove(cluster);

    /// <summary>False where it touches metadata; it is added all the same.</summary>
    public bool AddRegion(long offset, long length)
    {
        if (length == 0) return true;
        long first = offset >> clusterBits, end = (offset + length - 1 >> clusterBits) + 1;
        int at = 0;
        for (int high = _regions.Count; at < high;)
        {
            int middle = (at + high) / 2;
            if (_regions[middle].End < first) at = middle + 1;
            else high = middle;
        }
        bool isFree = true;
        while (at < _regions.Count && _regions[at].First <= end)
        {
            isFree &= _regions[at].End == first || _regions[at].First == end;
            (first, end) = (Math.Min(first, _regions[at].First), Math.Max(end, _regions[at].End));
            _regions.RemoveAt(at);
        }
        _regions.Insert(at, (first, end));
        return isFree;
    }

    public void RemoveRegion(long offset, long length)
    {
        long first = offset >> clusterBits, end = (offset + length - 1 >> clusterBits) + 1;
        for (int i = _regions.Count - 1; i >= 0; i--)
        {
            (long oldFirst, long oldEnd) = _regions[i];
            if (oldEnd <= first || oldFirst >= end) continue;
            _regions.RemoveAt(i);
            if (oldEnd > end) _regions.Insert(i, (end, oldEnd));
            if (oldFirst < first) _regions.Insert(i, (oldFirst, first));
        }
    }

    bool InRegion(long cluster)
    {
        int low = 0, high = _regions.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (cluster < _regions[middle].First) high = middle - 1;
            else if (cluster >= _regions[middle].End) low = middle + 1;
            else return true;
        }
        return false;
    }
}
