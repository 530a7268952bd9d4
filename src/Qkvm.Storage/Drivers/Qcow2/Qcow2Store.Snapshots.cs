using System.Buffers.Binary;
using System.Globalization;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Snapshots come and go.</summary>
/// <remarks>A cluster's refcount is raised before one more table refers to it, and lowered after one less does. That an
/// entry is the only one (COPIED) is taken back before refcounts rise, and said again after they fell: a crash between
/// leaves clusters that are copied once without need.</remarks>
sealed partial class Qcow2Store
{
    const int SnapshotFieldsAt = 60;                               // count, offset

    public void CreateSnapshot(BlockSnapshot from)
    {
        Flush();
        Mapping.ShareAll();
        WriteBack();
        FlushFile();
        AddReferences(Mapping.L1);
        int clusters = Math.Max(1, (int)((Header.L1Entries * 8L + Layout.ClusterSize - 1) >> Layout.ClusterBits));
        long home = AllocateTogether(clusters);
        byte[] l1 = ToBytes(Mapping.L1, clusters);
        Write(home, l1);
        string id = (Snapshots.Select(s => long.TryParse(s.Id, CultureInfo.InvariantCulture, out long n) ? n : 0)
            .DefaultIfEmpty().Max() + 1).ToString(CultureInfo.InvariantCulture);
        var snapshot = Qcow2Snapshot.Of(from, id, home, Header.L1Entries, Header.Size);
        WriteSnapshots([.. Snapshots, snapshot]);
        Map.AddRegion(home, Header.L1Entries * 8L);
    }

    /// <summary>The snapshot's tables are shared with the disk, whose own are let go.</summary>
    public void ApplySnapshot(Qcow2Snapshot snapshot)
    {
        Flush();
        ulong[] l1 = Mapping.ReadL1(snapshot.L1Offset, snapshot.L1Entries);
        for (int i = 0; i < l1.Length; i++) l1[i] &= ~L2Entry.Copied;
        ulong[] old = [.. Mapping.L1];
        if (l1.Length < old.Length) Array.Resize(ref l1, old.Length); // the header says how many a disk needs
        AddReferences(l1);
        int clusters = Math.Max(1, (int)((l1.Length * 8L + Layout.ClusterSize - 1) >> Layout.ClusterBits));
        long home = AllocateTogether(clusters), oldHome = Header.L1Offset, oldBytes = Header.L1Entries * 8L;
        Write(home, ToBytes(l1, clusters));
        WriteBack();
        FlushFile();
        (Header.L1Offset, Header.L1Entries) = (home, l1.Length);
        WriteDiskFields();
        FlushFile();
        Map.AddRegion(home, l1.Length * 8L);
        Map.RemoveRegion(oldHome, oldBytes);
        Mapping.Replace(l1);
        DropReferences(old);
        FreeNow(oldHome, oldBytes, punch: false);
        Mapping.OwnAll();
        Mapping.AddTables();
        WriteAllNow();
    }

    public void DeleteSnapshot(Qcow2Snapshot snapshot)
    {
        Flush();
        ulong[] l1 = Mapping.ReadL1(snapshot.L1Offset, snapshot.L1Entries);
        WriteSnapshots([.. Snapshots.Where(other => other != snapshot)]);
        Map.RemoveRegion(snapshot.L1Offset, snapshot.L1Entries * 8L);
        DropReferences(l1);
        FreeNow(snapshot.L1Offset, snapshot.L1Entries * 8L, punch: false);
        Mapping.OwnAll();
        WriteAllNow();
    }

    /// <summary>Before the image becomes one of version 3.</summary>
    public void CompleteSnapshots()
    {
        if (Snapshots.Count == 0) return;
        foreach (Qcow2Snapshot snapshot in Snapshots) snapshot.Complete(Header.Size);
        WriteSnapshots(Snapshots);
    }

    void WriteAllNow()
    {
        WriteBack();
        FlushFile();
    }

    /// <summary>A new table beside the old one, to which the header then turns.</summary>
    void WriteSnapshots(IReadOnlyList<Qcow2Snapshot> snapshots)
    {
        long bytes = snapshots.Sum(snapshot => (long)snapshot.PaddedSize), home = 0;
        if (bytes > 0)
        {
            int clusters = (int)((bytes + Layout.ClusterSize - 1) >> Layout.ClusterBits), at = 0;
            home = AllocateTogether(clusters);
            var table = new byte[(long)clusters << Layout.ClusterBits];
            foreach (Qcow2Snapshot snapshot in snapshots)
            {
                snapshot.WriteTo(table.AsSpan(at));
                at += snapshot.PaddedSize;
            }
            Write(home, table);
        }
        WriteBack();
        FlushFile();
        long oldHome = Header.SnapshotsOffset, oldBytes = Snapshots.Sum(snapshot => (long)snapshot.PaddedSize);
        (Header.SnapshotCount, Header.SnapshotsOffset) = (snapshots.Count, home);
        var fields = new byte[12];
        BinaryPrimitives.WriteInt32BigEndian(fields, snapshots.Count);
        BinaryPrimitives.WriteInt64BigEndian(fields.AsSpan(4), home);
        Write(SnapshotFieldsAt, fields);
        FlushFile();
        Snapshots = snapshots;
        Map.AddRegion(home, bytes);
        if (oldBytes == 0) return;
        Map.RemoveRegion(oldHome, oldBytes);
        FreeNow(oldHome, oldBytes, punch: false);
    }

    /// <summary>One more for every cluster that an L1 table leads to. None, where one would be counted too
    /// often.</summary>
    void AddReferences(ReadOnlySpan<ulong> l1)
    {
        ulong[] entries = [.. l1];
        long done = 0;
        try
        {
            foreach (long cluster in Mapping.Clusters(entries))
            {
                if (Refcounts.Get(cluster) == 0) throw Corrupt($"cluster {cluster} is in use and has refcount 0");
                if (Refcounts.Get(cluster) >= Refcounts.MaxRefcount)
                    throw new BlockException($"{Name}: refcounts of {1 << Layout.RefcountOrder} bits cannot count one "
                        + "more use of a cluster", Errno.Inval);
                Refcounts.Set(cluster, Refcounts.Get(cluster) + 1);
                done++;
            }
        }
        catch (BlockException) when (!_isCorrupt)
        {
            foreach (long cluster in Mapping.Clusters(entries).Take((int)Math.Min(done, int.MaxValue)))
                Refcounts.Decrease(cluster);
            Mapping.OwnAll();
            throw;
        }
        WriteBack();
        FlushFile();
    }

    void DropReferences(ulong[] l1)
    {
        foreach (long cluster in Mapping.Clusters(l1))
        {
            if (!Refcounts.Decrease(cluster)) continue;
            Map.RemoveTable(cluster);
            Mapping.Forget(cluster << Layout.ClusterBits);
        }
        Freed?.Invoke();
    }

    byte[] ToBytes(ReadOnlySpan<ulong> l1, int clusters)
    {
        var raw = new byte[(long)clusters << Layout.ClusterBits];
        for (int i = 0; i < l1.Length; i++) BinaryPrimitives.WriteUInt64BigEndian(raw.AsSpan(i * 8), l1[i]);
        return raw;
    }
}
