using Qkvm.Core.Devices;

namespace Qkvm.Core.Block.Jobs;

/// <summary>Which parts of a disk are copied: all, what the top image has, what a dirty bitmap says, or only what is
/// written from now on.</summary>
public enum CopyScope { Full, Top, Bitmap, None }

/// <summary>What becomes of a bitmap when its backup ends: it starts anew where that succeeded, where it did not
/// too, or goes on as if nothing had been.</summary>
public enum BitmapMode { OnSuccess, Always, Never }

/// <summary>What a job does where a disk fails.</summary>
/// <param name="OnRead">Where reading fails.</param>
public sealed record JobErrorPolicies(ErrorPolicy OnRead = ErrorPolicy.Report,
    ErrorPolicy OnWrite = ErrorPolicy.Report);

/// <summary>block-commit: what lies above a base goes into it.</summary>
/// <param name="Device">A node or drive.</param>
/// <param name="Top">The highest node that is committed; null: the device's own.</param>
/// <param name="Base">Null: the lowest one.</param>
/// <param name="BackingFile">What the image above the top names from then on; null: the base.</param>
public sealed record CommitRequest(JobOptions Job, string Device, string? Top = null, string? Base = null,
    string? BackingFile = null, JobErrorPolicies? Errors = null);

/// <summary>block-stream: an image gets what it lies over, down to a base.</summary>
/// <param name="Base">Null: all.</param>
public sealed record StreamRequest(JobOptions Job, string Device, string? Base = null, string? BackingFile = null,
    JobErrorPolicies? Errors = null);

/// <summary>blockdev-mirror: a copy that follows its disk, and can take its place.</summary>
/// <param name="Replaces">The node whose place it takes; null: the source's.</param>
/// <param name="IsBlocking">The guest's writes go to the copy before they end.</param>
/// <param name="Granularity">Bytes for one bit of what is to be copied; null: 64 KiB.</param>
public sealed record MirrorRequest(JobOptions Job, string Device, string Target, CopyScope Scope,
    string? Replaces = null, bool IsBlocking = false, int? Granularity = null, JobErrorPolicies? Errors = null);

/// <summary>blockdev-backup: a copy of the disk as it is when the job starts.</summary>
public sealed record BackupRequest(JobOptions Job, string Device, string Target, CopyScope Scope,
    string? Bitmap = null, BitmapMode BitmapMode = BitmapMode.OnSuccess, bool IsCompressed = false,
    JobErrorPolicies? Errors = null);

/// <summary>One of several changes that happen together or not at all.</summary>
public abstract record BlockAction;

/// <summary>blockdev-snapshot.</summary>
public sealed record SnapshotAction(string Node, string Overlay) : BlockAction;

/// <summary>blockdev-snapshot-sync: the overlay is made, too.</summary>
/// <param name="NodeName">The overlay's; null: nobody names it.</param>
/// <param name="IsExisting">The image is there already.</param>
public sealed record SnapshotSyncAction(string Device, string File, string Format, string? NodeName = null,
    bool IsExisting = false) : BlockAction;

public sealed record BackupAction(BackupRequest Request) : BlockAction;

/// <param name="Granularity">Bytes for one bit; null: 64 KiB, or what the image likes.</param>
public sealed record BitmapAddAction(string Node, string Name, int? Granularity = null, bool IsPersistent = false,
    bool IsEnabled = true) : BlockAction;

public sealed record BitmapRemoveAction(string Node, string Name) : BlockAction;
public sealed record BitmapClearAction(string Node, string Name) : BlockAction;
public sealed record BitmapEnableAction(string Node, string Name, bool IsEnabled) : BlockAction;

/// <param name="Sources">Bitmaps of the node's own, or of others.</param>
public sealed record BitmapMergeAction(string Node, string Target,
    IReadOnlyList<(string? Node, string Name)> Sources) : BlockAction;

/// <summary>Fails, so that nothing happens.</summary>
public sealed record AbortAction : BlockAction;

/// <summary>Work on block nodes beside the guest, and changes of the graph that it needs. Main loop, under the machine
/// lock; what they return completes when the job runs or the change is done.</summary>
/// <remarks>Errors are <see cref="Machine.CommandException"/>s, ConfigurationExceptions and
/// <see cref="BlockException"/>s.</remarks>
public interface IBlockJobs
{
    JobList Jobs { get; }

    /// <summary>A node, or the medium of a drive.</summary>
    BlockDriver Find(string name);

    ValueTask CommitAsync(CommitRequest request);
    ValueTask StreamAsync(StreamRequest request);
    ValueTask MirrorAsync(MirrorRequest request);
    ValueTask CreateAsync(string jobId, Options options);
    ValueTask TransactAsync(IReadOnlyList<BlockAction> actions);

    /// <summary>change-backing-file: writes another name into an image.</summary>
    ValueTask ChangeBackingAsync(string device, string image, string file);
}
