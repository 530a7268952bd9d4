using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>The metadata of an open image: one lock, the order of writes, clusters to be freed.</summary>
/// <remarks>Nothing on disk ever refers to something that is not there yet. Changes are written in this order, with a
/// flush of the file between the steps: data and refcounts; L2 tables; L1 entries; and only when all those have reached
/// the disk are the refcounts of the clusters lowered that they no longer refer to. A crash at any point leaks clusters
/// at worst. All members are called under <see cref="Sync"/>.</remarks>
sealed partial class Qcow2Store
{
    const int MaxPendingFrees = 4096;

    readonly List<(long Offset, long Length, bool Punch)> _pendingFrees = [];
    readonly BlockEdge _file;
    readonly BlockEdge? _data;
    bool _isCorrupt, _knowsTables;

    /// <param name="data">Of an external data file; null without one, or where nobody reads it.</param>
    public Qcow2Store(BlockEdge file, Qcow2Header header, string name, bool readOnly, BlockEdge? data = null)
    {
        (_file, Header, Name, IsReadOnly, _data) = (file, header, name, readOnly, data);
        (data?.Node as IGrowable)?.AllowGrowth();
        Layout = new Qcow2Layout(header);
        CanGrow = file.Node is IGrowable growable && growable.AllowGrowth();
        Map = new MetadataMap(header.ClusterBits);
        Refcounts = new Qcow2Refcounts(this);
        Mapping = new Qcow2Mapping(this);
    }

    public Lock Sync { get; } = new();
    public BlockDriver File => _file.Node;

    /// <summary>Where guest data lie: in the image, or in a file of their own, each cluster at its guest
    /// offset.</summary>
    public BlockDriver Data => _data?.Node ?? (HasDataFile ? throw new BlockException($"{Name}: its data file is not "
        + "open", Errno.Io) : _file.Node);
    public bool HasDataFile => Header.HasDataFile;
    public Qcow2Header Header { get; }
    public Qcow2Layout Layout { get; }
    public MetadataMap Map { get; }
    public Qcow2Refcounts Refcounts { get; }
    public Qcow2Mapping Mapping { get; }
    public IReadOnlyList<Qcow2Snapshot> Snapshots { get; private set; } = [];
    public string Name { get; }
    public bool IsReadOnly { get; private set; }
    public bool CanGrow { get; }
    public bool IsCorrupt => _isCorrupt;

    /// <summary>A check mends it: what is wrong is what it looks for.</summary>
    public bool IsRepairing { get; set; }

    /// <summary>Clusters were freed: what was remembered of their contents is void.</summary>
    public event Action? Freed;

    /// <summary>Reads the tables and, for writing, checks that no two of them share a cluster.</summary>
    /// <param name="isChecked">What they share is for the check to find.</param>
    public void Load(bool isChecked = false)
    {
        Snapshots = Qcow2SnapshotTable.Read(File, Header, Name, out long snapshotBytes);
        Mapping.Load();
        if (!IsReadOnly) LoadTables(isChecked, snapshotBytes);
    }

    /// <summary>For reading alone from now on, or for writing too.</summary>
    public void Reopen(bool isReadOnly)
    {
        if (!isReadOnly && !_knowsTables)
        {
            Snapshots = Qcow2SnapshotTable.Read(File, Header, Name, out long snapshotBytes);
            LoadTables(isChecked: false, snapshotBytes);
        }
        IsReadOnly = isReadOnly;
    }

    void LoadTables(bool isChecked, long snapshotBytes)
    {
        bool isSound = Map.AddRegion(0, Layout.ClusterSize)
                       & Map.AddRegion(Header.L1Offset, Header.L1Entries * 8L)
                       & Map.AddRegion(Header.SnapshotsOffset, snapshotBytes);
        foreach (Qcow2Snapshot snapshot in Snapshots.OrderBy(snapshot => snapshot.L1Offset))
            isSound &= Map.AddRegion(snapshot.L1Offset, snapshot.L1Entries * 8L);
        isSound &= Refcounts.Load();
        isSound &= Mapping.AddTables();
        if (!isSound && !isChecked)
            throw new ConfigurationException($"Could not open '{Name}': Image is corrupt: two of its tables share a " +
                "cluster. " +
                                             "Repair it with qemu-img check -r all, or open it with read-only=on");
        _knowsTables = true;
    }

    public void Read(long offset, Memory<byte> data) =>
        ScatterLists.Wait(File.ReadAsync(offset, new ScatterList(data)));
    public void Write(long offset, Memory<byte> data) =>
        ScatterLists.Wait(File.WriteAsync(offset, new ScatterList(data)));
    public void FlushFile()
    {
        if (_data != null) ScatterLists.Wait(_data.Node.FlushAsync());
        ScatterLists.Wait(File.FlushAsync());
    }

    /// <summary>Room for guest data.</summary>
    /// <param name="guest">Offset of the first cluster.</param>
    public (long Offset, int Count) AllocateData(long guest, int wanted, out bool isUntouched)
    {
        isUntouched = false;
        if (HasDataFile) return (guest, wanted);
        (long, int) place = Refcounts.Allocate(wanted, out isUntouched);
        isUntouched &= !IsEncrypted;                               // zeros on disk are none to the guest
        return place;
    }

    /// <summary>A cluster of guest data that its table refers to no longer.</summary>
    public void FreeData(long offset, bool punch)
    {
        if (!HasDataFile) FreeLater(offset, Layout.ClusterSize, punch);
    }

    public void CheckWritable()
    {
        if (_isCorrupt && !IsRepairing)
            throw new BlockException($"{Name}: the image is corrupt and takes no more writes", Errno.Io);
    }

    /// <summary>Refcounts are written when there is no room for them in memory, and at the end: the dirty bit says that
    /// those on disk are not to be believed. Spec: "lazy refcounts".</summary>
    public bool IsLazy { get; private set; }

    public void BeginLazy()
    {
        if ((Header.Compatible & Qcow2Features.LazyRefcounts) == 0 || Header.Version < 3) return;
        SetFeature(Qcow2Header.IncompatibleAt, Header.Incompatible |= Qcow2Features.Dirty);
        FlushFile();
        IsLazy = true;
    }

    public void EndLazy()
    {
        if (!IsLazy) return;
        Refcounts.WriteBlocks();
        FlushFile();
        SetFeature(Qcow2Header.IncompatibleAt, Header.Incompatible &= ~Qcow2Features.Dirty);
        FlushFile();
        IsLazy = false;
    }

    /// <summary>Writes all changes but the pending frees. Whatever fails stays to be written.</summary>
    public void WriteBack()
    {
        if (!IsLazy) Refcounts.WriteBlocks();
        if (!Mapping.HasDirty) return;
        FlushFile();
        Mapping.WriteTables();
        if (!Mapping.HasDirty) return;
        FlushFile();
        Mapping.WriteL1();
    }

    /// <summary>Writes all changes. The caller flushes the file afterwards to have them on stable storage.</summary>
    public void Flush()
    {
        if (IsReadOnly) return;
        CheckWritable();
        WriteBack();
        if (_pendingFrees.Count == 0) return;
        FlushFile();
        while (_pendingFrees.Count > 0)
        {
            (long offset, long length, bool punch) = _pendingFrees[^1];
            // first: a failure may leak clusters, not free them twice
            _pendingFrees.RemoveAt(_pendingFrees.Count - 1);
            FreeNow(offset, length, punch);
        }
    }

    /// <summary>Bytes of the file that the tables refer to no longer, once they are on disk.</summary>
    /// <param name="punch">The guest asked for it: give the space back to the host as well.</param>
    public void FreeLater(long offset, long length, bool punch) => _pendingFrees.Add((offset, length, punch));

    /// <summary>Keeps the list of pending frees short. Not amid a change.</summary>
    public void LimitPendingFrees()
    {
        if (_pendingFrees.Count >= MaxPendingFrees) Flush();
    }

    /// <summary>Lowers refcounts at once: of clusters that no table on disk refers to.</summary>
    public void FreeNow(long offset, long length, bool punch)
    {
        if (length == 0) return;
        for (long cluster = offset >> Layout.ClusterBits; cluster <= (offset + length - 1) >> Layout.ClusterBits;
            cluster++)
        {
            if (!Refcounts.Decrease(cluster)) continue;
            Map.RemoveTable(cluster);
            Mapping.Forget(cluster << Layout.ClusterBits);
            if (punch) ScatterLists.Wait(File.DiscardAsync(cluster << Layout.ClusterBits, PunchLength(cluster)));
        }
        Freed?.Invoke();
    }

    /// <summary>Remembers on disk that the image is damaged, and writes nothing to it from now on.</summary>
    public BlockException Corrupt(string what)
    {
        if (!IsReadOnly && !_isCorrupt && !IsRepairing)
        {
            _isCorrupt = true;
            if (Header.Version >= 3)
                SetFeature(Qcow2Header.IncompatibleAt, Header.Incompatible |= Qcow2Features.Corrupt);
        }
        return new BlockException($"{Name}: the image is corrupt: {what}", Errno.Io);
    }

    public void SetFeature(int at, ulong bits)
    {
        var field = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(field, bits);
        Write(at, field);
    }

    long PunchLength(long cluster)
    {
        long left = File.Length - (cluster << Layout.ClusterBits);
        return Math.Clamp(left, 0, Layout.ClusterSize);
    }
}

/// <summary>Sizes that follow from the header.</summary>
sealed class Qcow2Layout(Qcow2Header header)
{
    public int ClusterBits { get; } = header.ClusterBits;
    public int ClusterSize { get; } = 1 << header.ClusterBits;
    public int L2EntrySize { get; } = header.IsExtendedL2 ? 16 : 8;
    public int L2Bits { get; } = header.ClusterBits - (header.IsExtendedL2 ? 4 : 3);
    public int L2Entries => 1 << L2Bits;
    public int Subclusters { get; } = header.IsExtendedL2 ? 32 : 1;
    public int SubclusterSize { get; } = header.IsExtendedL2 ? 1 << (header.ClusterBits - 5) : 1 << header.ClusterBits;
    public int RefcountOrder { get; set; } = header.RefcountOrder;
    public int RefcountBlockBits => ClusterBits + 3 - RefcountOrder;
    public long RefcountsPerBlock => 1L << RefcountBlockBits;

    public long OffsetInCluster(long offset) => offset & (ClusterSize - 1);
}
