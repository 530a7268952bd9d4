using System.Text.Json.Serialization;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Block.Jobs;

/// <summary>Which parts of a disk are copied: all, what the top image has, what a dirty bitmap says, or only what is
/// written from now on.</summary>
public enum CopyScope { Full, Top, Bitmap, None }

/// <summary>What becomes of a bitmap when its backup ends: it starts anew where that succeeded, where it did not
/// too, or goes on as if nothing had been.</summary>
[JsonConverter(typeof(NamedEnum<BitmapMode>))]
public enum BitmapMode { OnSuccess, Always, Never }

/// <summary>What a job does where a disk fails.</summary>
/// <param name="OnRead">Where reading fails.</param>
public sealed record JobErrorPolicies(ErrorPolicy OnRead = ErrorPolicy.Report,
    ErrorPolicy OnWrite = ErrorPolicy.Report);

/// <summary>An image that a job makes, or opens, for itself: what drive-mirror and drive-backup name by a file.
/// </summary>
/// <param name="Format">Null: the source's, or as it is found.</param>
/// <param name="IsExisting">It is there already.</param>
/// <param name="NodeName">Null: nobody names its node.</param>
/// <param name="Unmaps">Zeros take no room of the host.</param>
public sealed record JobTarget(string? Format = null, bool IsExisting = false, string? NodeName = null,
    bool Unmaps = true);

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
/// <param name="Made">Not null: the target is the name of a file.</param>
public sealed record MirrorRequest(JobOptions Job, string Device, string Target, CopyScope Scope,
    string? Replaces = null, bool IsBlocking = false, int? Granularity = null, JobErrorPolicies? Errors = null,
    JobTarget? Made = null);

/// <summary>blockdev-backup: a copy of the disk as it is when the job starts.</summary>
/// <param name="Bitmap">What is to be copied, with that scope; and what starts anew when it has been.</param>
/// <param name="Made">Not null: the target is the name of a file.</param>
public sealed record BackupRequest(JobOptions Job, string Device, string Target, CopyScope Scope,
    string? Bitmap = null, BitmapMode BitmapMode = BitmapMode.OnSuccess, bool IsCompressed = false,
    JobErrorPolicies? Errors = null, JobTarget? Made = null);

/// <summary>One of several changes that happen together or not at all.</summary>
public abstract record BlockAction;

/// <summary>blockdev-snapshot.</summary>
public sealed record SnapshotAction(string Node, string Overlay) : BlockAction;

/// <summary>blockdev-snapshot-sync: the overlay is made, too.</summary>
/// <param name="NodeName">The overlay's; null: nobody names it.</param>
/// <param name="IsExisting">The image is there already.</param>
public sealed record SnapshotSyncAction(string Device, string File, string Format, string? NodeName = null,
    bool IsExisting = false) : BlockAction;

/// <summary>blockdev-snapshot-internal-sync: the image keeps its state.</summary>
/// <param name="VmClock">Nanoseconds that the machine has run.</param>
public sealed record InternalSnapshotAction(string Device, string Name, ulong VmClock) : BlockAction;

public sealed record BackupAction(BackupRequest Request) : BlockAction;

/// <param name="Granularity">Bytes for one bit; null: 64 KiB, or what the image likes.</param>
public sealed record BitmapAddAction(string Node, string Name, int? Granularity = null, bool IsPersistent = false,
    bool IsEnabled = true) : BlockAction;

public sealed record BitmapRemoveAction(string Node, string Name) : BlockAction;
public sealed record BitmapClearAction(string Node, string Name) : BlockAction;
public sealed record BitmapEnableAction(string Node, string Name, bool IsEnabled) : BlockAction;

/// <param name="Sources">Bitmaps of the node's own, or of others.</param>
public sealed record BitmapMergeAction(string Node, string Target,
    IReadOnlyList<BitmapName> Sources) : BlockAction;

/// <summary>Fails, so that nothing happens.</summary>
public sealed record AbortAction : BlockAction;

/// <summary>Work on block nodes beside the guest, and changes of the graph that it needs. Main loop, under the machine
/// lock; what they return completes when the job runs or the change is done.</summary>
/// <remarks>Errors are <see cref="CommandException"/>s, ConfigurationExceptions and
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

    /// <param name="isGrouped">Of the jobs that begin with it all end well or none.</param>
    ValueTask TransactAsync(IReadOnlyList<BlockAction> actions, bool isGrouped = false);

    /// <summary>blockdev-reopen: nodes, which these name, get other options, all or none.</summary>
    ValueTask ReopenAsync(IReadOnlyList<Options> nodes);

    /// <summary>blockdev-snapshot-delete-internal-sync.</summary>
    /// <param name="id">With a name or in its place.</param>
    /// <returns>What there was.</returns>
    ValueTask<BlockSnapshot> DeleteSnapshotAsync(string device, string? id, string? name);

    /// <summary>The human monitor's commit: what a drive's image has goes into what it lies over, and it is empty
    /// then.</summary>
    ValueTask CommitNowAsync(string device);

    /// <summary>change-backing-file: writes another name into an image.</summary>
    ValueTask ChangeBackingAsync(string device, string image, string file);
}
