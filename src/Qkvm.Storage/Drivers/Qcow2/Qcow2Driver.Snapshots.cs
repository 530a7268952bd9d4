using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Internal snapshots: each has an L1 table of its own, and shares clusters with the disk.</summary>
public sealed partial class Qcow2Driver : ISnapshots
{
    const int MaxIdBytes = 128, MaxNameBytes = 256;                // of others that read the image

    /// <inheritdoc/>
    public ValueTask CreateSnapshotAsync(BlockSnapshot snapshot)
    {
        if (_store.HasDataFile)
            throw new BlockException("an image with an external data file keeps no snapshots", Errno.OpNotSupp);
        PrepareForWriting();
        lock (_store.Sync)
        {
            if (System.Text.Encoding.UTF8.GetByteCount(snapshot.Name) >= MaxNameBytes)
                throw new BlockException($"{FileName}: the snapshot's name is longer than {MaxNameBytes - 1} bytes",
                    Errno.Inval);
            if (_store.Snapshots.Count >= Qcow2Header.MaxSnapshots)
                throw new BlockException($"{FileName}: there are {_store.Snapshots.Count} snapshots already",
                    Errno.FBig);
            _store.CreateSnapshot(snapshot);
        }
        return default;
    }

    /// <inheritdoc/>
    public async ValueTask ApplySnapshotAsync(string id)
    {
        PrepareForWriting();
        Qcow2Snapshot snapshot;
        lock (_store.Sync) snapshot = FindSnapshot(id);
        if (snapshot.DiskSize is { } size && size != _store.Header.Size) await ResizeCore(size).ConfigureAwait(false);
        lock (_store.Sync) _store.ApplySnapshot(snapshot);
    }

    /// <inheritdoc/>
    public ValueTask DeleteSnapshotAsync(string id)
    {
        PrepareForWriting();
        lock (_store.Sync) _store.DeleteSnapshot(FindSnapshot(id));
        return default;
    }

    /// <inheritdoc/>
    public ValueTask ShowSnapshotAsync(string id)
    {
        lock (_store.Sync)
        {
            Qcow2Snapshot snapshot = FindSnapshot(id);
            if (!IsReadOnly) throw new BlockException("a node that is written cannot show a snapshot", Errno.Inval);
            if (snapshot.DiskSize is { } size) _store.Header.Size = size;
            _store.Header.L1Entries = snapshot.L1Entries;
            _store.Header.CheckL1(FileName);
            _store.Mapping.Replace(_store.Mapping.ReadL1(snapshot.L1Offset, snapshot.L1Entries));
        }
        return default;
    }

    Qcow2Snapshot FindSnapshot(string id) => _store.Snapshots.FirstOrDefault(snapshot => snapshot.Id == id)
        ?? throw new BlockException("snapshot not found", Errno.NoEnt);
}
