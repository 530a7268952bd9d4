namespace Qkvm.Core.Block.Images;

/// <summary>A driver whose image keeps earlier states of the disk; <see cref="ImageFacts.Snapshots"/> lists
/// them.</summary>
/// <remarks>No request is in flight. Failures are <see cref="BlockException"/>s; a name that the image has not is
/// ENOENT.</remarks>
public interface ISnapshots
{
    /// <summary>Keeps the disk as it is now.</summary>
    /// <param name="snapshot">Without an Id, which the image gives.</param>
    ValueTask CreateSnapshotAsync(BlockSnapshot snapshot);

    /// <summary>The disk becomes what it was; the snapshot stays.</summary>
    /// <param name="id">Of the image's list.</param>
    ValueTask ApplySnapshotAsync(string id);

    ValueTask DeleteSnapshotAsync(string id);

    /// <summary>Of a read-only node: from now on it reads as it was then. The image stays as it is.</summary>
    ValueTask ShowSnapshotAsync(string id);
}
