using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<MirrorSyncMode>))]
public enum MirrorSyncMode { Full, Top, None, Incremental, Bitmap }

[JsonConverter(typeof(NamedEnum<MirrorCopyMode>))]
public enum MirrorCopyMode { Background, WriteBlocking }

[JsonConverter(typeof(NamedEnum<BlockdevOnError>))]
public enum BlockdevOnError { Report, Ignore, Enospc, Stop, Auto }

/// <param name="Device">A node or a drive.</param>
/// <param name="BaseNode">What is committed into; the lowest image by default.</param>
/// <param name="TopNode">The highest image that is committed; the device's by default.</param>
public sealed record BlockCommitArguments(string Device, string? JobId = null, string? BaseNode = null,
    string? Base = null, string? TopNode = null, string? Top = null, string? BackingFile = null, long Speed = 0,
    BlockdevOnError OnError = BlockdevOnError.Report, string? FilterNodeName = null, bool AutoFinalize = true,
    bool AutoDismiss = true);

public sealed record BlockStreamArguments(string Device, string? JobId = null, string? Base = null,
    string? BaseNode = null, string? BackingFile = null, string? Bottom = null, long Speed = 0,
    BlockdevOnError OnError = BlockdevOnError.Report, string? FilterNodeName = null, bool AutoFinalize = true,
    bool AutoDismiss = true);

public sealed record BlockdevMirrorArguments(string Device, string Target, MirrorSyncMode Sync, string? JobId = null,
    string? Replaces = null, long Speed = 0, int? Granularity = null, long? BufSize = null,
    BlockdevOnError OnSourceError = BlockdevOnError.Report, BlockdevOnError OnTargetError = BlockdevOnError.Report,
    string? FilterNodeName = null, MirrorCopyMode CopyMode = MirrorCopyMode.Background, bool AutoFinalize = true,
    bool AutoDismiss = true);

/// <param name="Bitmap">What has changed, for incremental backups.</param>
public sealed record BlockdevBackupArguments(string Device, string Target, MirrorSyncMode Sync, string? JobId = null,
    long Speed = 0, string? Bitmap = null, BitmapMode? BitmapMode = null, bool Compress = false,
    BlockdevOnError OnSourceError = BlockdevOnError.Report, BlockdevOnError OnTargetError = BlockdevOnError.Report,
    bool AutoFinalize = true, bool AutoDismiss = true, string? FilterNodeName = null)
{
    internal BackupRequest Request
    {
        get
        {
            CopyScope scope = StartBlockJobs.Scope(Sync);
            if (scope == CopyScope.Bitmap && Bitmap == null)
                throw new CommandException($"must provide a valid bitmap name for '{Name(Sync)}' sync mode");
            BitmapMode? mode = BitmapMode;
            if (Sync == MirrorSyncMode.Incremental)
            {
                if (mode is not (null or Core.Block.Jobs.BitmapMode.OnSuccess)) throw new CommandException(
                    "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
                mode = Core.Block.Jobs.BitmapMode.OnSuccess;
            }
            if (Bitmap != null && mode == null)
                throw new CommandException("Bitmap sync mode must be given when providing a bitmap");
            if (Bitmap != null && scope == CopyScope.None) throw new CommandException(
                $"sync mode '{Name(Sync)}' does not produce meaningful bitmap outputs");
            if (Bitmap != null && mode == Core.Block.Jobs.BitmapMode.Never && scope != CopyScope.Bitmap)
                throw new CommandException("Bitmap sync mode 'never' has no meaningful effect when combined with sync "
                    + $"mode '{Name(Sync)}'");
            if (Bitmap == null && mode != null)
                throw new CommandException("Cannot specify bitmap sync mode without a bitmap");
            return new BackupRequest(new JobOptions(JobId ?? "", AutoFinalize, AutoDismiss, Speed), Device, Target,
                scope, Bitmap, mode ?? Core.Block.Jobs.BitmapMode.OnSuccess, Compress,
                StartBlockJobs.Policies(OnSourceError, OnTargetError));
        }
    }

    static string Name(MirrorSyncMode mode) => mode.ToString().ToLowerInvariant();
}

/// <param name="Options">What blockdev-create makes, by its driver's names.</param>
public sealed record BlockdevCreateArguments(string JobId, JsonElement Options);

/// <summary>Commands that start jobs on disks.</summary>
static class StartBlockJobs
{
    public static readonly Command Commit = new Command<BlockCommitArguments, Nothing>("block-commit",
        StartBlockJobsJson.Default, static async (context, a) =>
        {
            string? @base = a.BaseNode ?? ByFile(context, a.Device, a.Base), top = a.TopNode
                ?? ByFile(context, a.Device, a.Top);
            await context.Host.BlockJobs.CommitAsync(new CommitRequest(new JobOptions(a.JobId ?? "", a.AutoFinalize,
                a.AutoDismiss, a.Speed), a.Device, top, @base, a.BackingFile, Policies(a.OnError, a.OnError)))
                .ConfigureAwait(false);
            return Nothing.Value;
        });

    public static readonly Command Stream = new Command<BlockStreamArguments, Nothing>("block-stream",
        StartBlockJobsJson.Default, static async (context, a) =>
        {
            string? @base = a.BaseNode ?? ByFile(context, a.Device, a.Base);
            if (a.Bottom is { } bottom)
                @base = context.Host.BlockJobs.Find(bottom).Below?.NodeName;
            await context.Host.BlockJobs.StreamAsync(new StreamRequest(new JobOptions(a.JobId ?? "", a.AutoFinalize,
                a.AutoDismiss, a.Speed), a.Device, @base, a.BackingFile, Policies(a.OnError, a.OnError)))
                .ConfigureAwait(false);
            return Nothing.Value;
        })
    {
        Human = new("block_stream", "device [speed [base]]", "copy data from a backing file into a block device",
            static words =>
            {
                string device = words.Word();
                long speed = words.HasMore ? words.Speed() : 0;
                return new BlockStreamArguments(device, Base: words.Optional(), Speed: speed);
            }),
        Completes = [Completions.Drives],
    };

    public static readonly Command Mirror = new Command<BlockdevMirrorArguments, Nothing>("blockdev-mirror",
        StartBlockJobsJson.Default, static (context, a) => StartMirrorAsync(context, a));

    internal static async ValueTask<Nothing> StartMirrorAsync(CommandContext context, BlockdevMirrorArguments a,
        JobTarget? made = null)
    {
        if (Scope(a.Sync) == CopyScope.Bitmap)
            throw new CommandException($"Sync mode '{a.Sync.ToString().ToLowerInvariant()}' not supported");
        await context.Host.BlockJobs.MirrorAsync(new MirrorRequest(new JobOptions(a.JobId ?? "", a.AutoFinalize,
            a.AutoDismiss, a.Speed), a.Device, a.Target, Scope(a.Sync), a.Replaces,
            a.CopyMode == MirrorCopyMode.WriteBlocking, a.Granularity is 0 ? null : a.Granularity,
            Policies(a.OnSourceError, a.OnTargetError), made)).ConfigureAwait(false);
        return Nothing.Value;
    }

    public static readonly Command Backup = new Command<BlockdevBackupArguments, Nothing>("blockdev-backup",
        StartBlockJobsJson.Default, static async (context, a) =>
        {
            await context.Host.BlockJobs.TransactAsync([new BackupAction(a.Request)]).ConfigureAwait(false);
            return Nothing.Value;
        });

    public static readonly Command Create = new Command<BlockdevCreateArguments, Nothing>("blockdev-create",
        StartBlockJobsJson.Default, static async (context, a) =>
        {
            await context.Host.BlockJobs.CreateAsync(a.JobId, Options.From(a.Options, "blockdev-create"))
                .ConfigureAwait(false);
            return Nothing.Value;
        });

    internal static CopyScope Scope(MirrorSyncMode mode) => mode switch
    {
        MirrorSyncMode.Full => CopyScope.Full,
        MirrorSyncMode.Top => CopyScope.Top,
        MirrorSyncMode.None => CopyScope.None,
        _ => CopyScope.Bitmap,
    };

    internal static JobErrorPolicies Policies(BlockdevOnError onRead, BlockdevOnError onWrite) =>
        new(Policy(onRead), Policy(onWrite));

    static ErrorPolicy Policy(BlockdevOnError on) => on switch
    {
        BlockdevOnError.Ignore => ErrorPolicy.Ignore,
        BlockdevOnError.Stop => ErrorPolicy.Stop,
        BlockdevOnError.Enospc => ErrorPolicy.Enospc,
        _ => ErrorPolicy.Report,
    };

    /// <summary>The older way to name a node: by its file.</summary>
    static string? ByFile(CommandContext context, string device, string? file)
    {
        if (file == null) return null;
        for (var node = context.Host.BlockJobs.Find(device); node != null;
            node = node.Below)
            if (node.FileName == file) return node.NodeName;
        throw new CommandException($"Can't find '{file}' in the backing chain");
    }
}

[JsonSerializable(typeof(BlockCommitArguments))]
[JsonSerializable(typeof(BlockStreamArguments))]
[JsonSerializable(typeof(BlockdevMirrorArguments))]
[JsonSerializable(typeof(BlockdevBackupArguments))]
[JsonSerializable(typeof(BlockdevCreateArguments))]
sealed partial class StartBlockJobsJson : JsonSerializerContext;
