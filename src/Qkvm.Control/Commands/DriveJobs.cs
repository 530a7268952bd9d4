using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Target">A file that is made, or is there already.</param>
/// <param name="Format">The source's by default, or as it is found.</param>
public sealed record DriveMirrorArguments(string Device, string Target, MirrorSyncMode Sync, string? JobId = null,
    string? Format = null, string? NodeName = null, string? Replaces = null,
    NewImageMode Mode = NewImageMode.AbsolutePaths, long Speed = 0, int? Granularity = null, long? BufSize = null,
    BlockdevOnError OnSourceError = BlockdevOnError.Report, BlockdevOnError OnTargetError = BlockdevOnError.Report,
    bool Unmap = true, MirrorCopyMode CopyMode = MirrorCopyMode.Background, bool AutoFinalize = true,
    bool AutoDismiss = true);

public sealed record DriveBackupArguments(string Device, string Target, MirrorSyncMode Sync, string? JobId = null,
    string? Format = null, NewImageMode Mode = NewImageMode.AbsolutePaths, long Speed = 0, string? Bitmap = null,
    BitmapMode? BitmapMode = null, bool Compress = false,
    BlockdevOnError OnSourceError = BlockdevOnError.Report, BlockdevOnError OnTargetError = BlockdevOnError.Report,
    bool AutoFinalize = true, bool AutoDismiss = true, string? FilterNodeName = null)
{
    internal BackupRequest Request => new BlockdevBackupArguments(Device, Target, Sync, JobId, Speed, Bitmap,
        BitmapMode, Compress, OnSourceError, OnTargetError, AutoFinalize, AutoDismiss, FilterNodeName).Request with
        {
            Made = new JobTarget(Format, Mode == NewImageMode.Existing),
        };
}

/// <summary>The older commands, which name files where blockdev-… name nodes: drive-mirror, drive-backup, and the human
/// monitor's commit.</summary>
static class DriveJobs
{
    public static readonly Command Mirror = new Command<DriveMirrorArguments, Nothing>("drive-mirror",
        DriveJobsJson.Default, static (context, a) => StartBlockJobs.StartMirrorAsync(context,
            new BlockdevMirrorArguments(a.Device, a.Target, a.Sync, a.JobId, a.Replaces, a.Speed, a.Granularity,
                a.BufSize, a.OnSourceError, a.OnTargetError, null, a.CopyMode, a.AutoFinalize, a.AutoDismiss),
            new JobTarget(a.Format, a.Mode == NewImageMode.Existing, a.NodeName, a.Unmap)))
    {
        Human = new("drive_mirror", "[-n] [-f] device target [format]", "initiates live storage\n\t\t\tmigration for "
            + "a device. The device's contents are\n\t\t\tcopied to the new image file, including data that\n\t\t\t"
            + "is written after the command is started.\n" + Flags, static words =>
            {
                (NewImageMode mode, MirrorSyncMode sync) = (Mode(words), Sync(words));
                return new DriveMirrorArguments(words.Word(Drive), words.Word(), sync, Format: words.Optional(),
                    Mode: mode);
            }),
        Completes = [Completions.Drives],
    };

    public static readonly Command Backup = new Command<DriveBackupArguments, Nothing>("drive-backup",
        DriveJobsJson.Default, static async (context, a) =>
        {
            await context.Host.BlockJobs.TransactAsync([new BackupAction(a.Request)]).ConfigureAwait(false);
            return Nothing.Value;
        })
    {
        Human = new("drive_backup", "[-n] [-f] [-c] device target [format]", "initiates a point-in-time\n\t\t\tcopy "
            + "for a device. The device's contents are\n\t\t\tcopied to the new image file, excluding data that"
            + "\n\t\t\tis written after the command is started.\n" + Flags + "The -c flag requests QEMU to compress "
            + "backup data\n\t\t\t(if the target format supports it).\n\t\t\t", static words =>
            {
                (NewImageMode mode, MirrorSyncMode sync) = (Mode(words), Sync(words));
                bool isCompressed = words.Flag('c');
                return new DriveBackupArguments(words.Word(Drive), words.Word(), sync, Format: words.Optional(),
                    Mode: mode, Compress: isCompressed);
            }),
        Completes = [Completions.Drives],
    };

    const string Drive = "block device name", Known = "nfc";
    const string Flags = "\t\t\tThe -n flag requests QEMU to reuse the image found\n\t\t\tin new-image-file, "
        + "instead of recreating it from scratch.\n\t\t\tThe -f flag requests QEMU to copy the whole disk,"
        + "\n\t\t\tso that the result does not need a backing file.\n\t\t\t";

    static NewImageMode Mode(MonitorArguments words) =>
        words.Flag('n', Known) ? NewImageMode.Existing : NewImageMode.AbsolutePaths;

    static MirrorSyncMode Sync(MonitorArguments words) =>
        words.Flag('f', Known) ? MirrorSyncMode.Full : MirrorSyncMode.Top;

    public sealed record CommitDrive(string Device);

    /// <summary>Lines that tell what failed: one drive of all is no reason to leave the others.</summary>
    public sealed record CommitResult(string Lines);

    public static readonly Command Commit = new Command<CommitDrive, CommitResult>(null, null,
        static async (context, a) =>
        {
            if (a.Device != "all") return new CommitResult(await CommitAsync(context, a.Device).ConfigureAwait(false));
            string lines = "";
            foreach ((string id, BlockBackend drive) in context.Backends.Drives.ToArray())
                if (drive.Root?.Below != null) lines += await CommitAsync(context, id).ConfigureAwait(false);
            return new CommitResult(lines);
        })
    {
        Human = new("commit", "device|all", "commit changes to the disk images (if -snapshot is used) or backing "
            + "files", static words => new CommitDrive(words.Word(Drive)),
            static (monitor, result) => monitor.Write(result.Lines)),
        Completes = [Completions.Drives],
    };

    static async ValueTask<string> CommitAsync(CommandContext context, string device)
    {
        if (!context.Backends.Drives.TryGetValue(device, out BlockBackend? drive))
            return $"Device '{device}' not found\n";
        if (!drive.HasMedium) return $"Device '{device}' has no medium\n";
        try { await context.Host.BlockJobs.CommitNowAsync(device).ConfigureAwait(false); }
        catch (Exception e) when (e is BlockException or CommandException or ConfigurationException)
        {
            return $"'commit' error for '{device}': {e.Message}\n";
        }
        return "";
    }
}

[JsonSerializable(typeof(DriveMirrorArguments))]
[JsonSerializable(typeof(DriveBackupArguments))]
sealed partial class DriveJobsJson : JsonSerializerContext;
