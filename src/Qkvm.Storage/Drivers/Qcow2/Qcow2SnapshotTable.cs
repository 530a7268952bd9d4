using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Reads the table of internal snapshots, which stays on disk as it is.</summary>
static class Qcow2SnapshotTable
{
    const long MaxBytes = 64 << 20;

    public static List<Qcow2Snapshot> Read(BlockDriver file, Qcow2Header header, string name, out long bytes)
    {
        var snapshots = new List<Qcow2Snapshot>();
        var head = new byte[Qcow2Snapshot.FixedSize];
        bytes = 0;
        for (int i = 0; i < header.SnapshotCount; i++)
        {
            long at = header.SnapshotsOffset + bytes;
            if (at > file.Length - Qcow2Snapshot.FixedSize)
                throw Bad(name, $"snapshot {i} lies beyond the end of the file");
            ScatterLists.Wait(file.ReadAsync(at, new ScatterList(head)));
            Qcow2Snapshot snapshot = Qcow2Snapshot.ReadFrom(head)
                ?? throw Bad(name, $"snapshot {i} has impossible sizes");
            if (snapshot.L1Offset % header.ClusterSize != 0
                || snapshot.L1Offset > file.Length - snapshot.L1Entries * 8L)
                throw Bad(name, $"snapshot {i} has its L1 table outside the file");
            var rest = new byte[snapshot.VariableSize];
            ScatterLists.Wait(file.ReadAsync(at + Qcow2Snapshot.FixedSize, new ScatterList(rest)));
            snapshot.ReadVariable(rest);
            snapshots.Add(snapshot);
            bytes += snapshot.PaddedSize;
            if (bytes > MaxBytes) throw Bad(name, "the snapshot table is larger than 64 MiB");
        }
        return snapshots;
    }

    static ConfigurationException Bad(string name, string what) =>
        new($"Could not open '{name}': Image is corrupt: {what}. Repair it with qemu-img check -r all");
}
