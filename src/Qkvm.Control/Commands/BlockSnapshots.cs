using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

public sealed record BlockdevSnapshotArguments(string Node, string Overlay);

[JsonConverter(typeof(NamedEnum<NewImageMode>))]
public enum NewImageMode { Existing, AbsolutePaths }

/// <param name="Device">A drive; or else the node is named.</param>
/// <param name="SnapshotFile">The image that takes what is written from now on.</param>
public sealed record BlockdevSnapshotSyncArguments(string SnapshotFile, string? Device = null, string? NodeName = null,
    string? SnapshotNodeName = null, string Format = "qcow2", NewImageMode Mode = NewImageMode.AbsolutePaths)
{
    internal BlockAction Action => new SnapshotSyncAction(Device ?? NodeName
        ?? throw new CommandException("Cannot find device='' nor node-name=''"), SnapshotFile, Format,
        SnapshotNodeName, Mode == NewImageMode.Existing);
}

/// <param name="Type">What is done, by the name of the command that does it alone.</param>
public sealed record TransactionAction(string Type, JsonElement Data);

[JsonConverter(typeof(NamedEnum<ActionCompletionMode>))]
public enum ActionCompletionMode { Individual, Grouped }

/// <param name="CompletionMode">Grouped: of the jobs that begin all end well or none.</param>
public sealed record TransactionProperties(ActionCompletionMode CompletionMode = ActionCompletionMode.Individual);

public sealed record TransactionArguments(IReadOnlyList<TransactionAction> Actions,
    TransactionProperties? Properties = null);

public sealed record ChangeBackingFileArguments(string Device, string ImageNodeName, string BackingFile);

/// <summary>Snapshots of running disks, and several changes of disks at one moment.</summary>
static class BlockSnapshots
{
    public static readonly Command Snapshot = new Command<BlockdevSnapshotArguments, Nothing>("blockdev-snapshot",
        BlockSnapshotsJson.Default, static (context, a) => Run(context, false, new SnapshotAction(a.Node, a.Overlay)));

    public static readonly Command SnapshotSync = new Command<BlockdevSnapshotSyncArguments, Nothing>(
        "blockdev-snapshot-sync", BlockSnapshotsJson.Default, static (context, a) => Run(context, false, a.Action))
    {
        Human = new("snapshot_blkdev", "[-n] device [new-image-file] [format]",
            "initiates a live snapshot\n\t\t\tof device. If a new image file is specified, the\n\t\t\t"
                + "new image file will become the new root image.\n\t\t\tIf format is specified, the snapshot file "
                + "will\n\t\t\tbe created in that format.\n\t\t\tThe default format is qcow2.  The -n flag requests "
                + "QEMU\n\t\t\tto reuse the image found in new-image-file, instead of\n\t\t\trecreating it from "
                + "scratch.", static words =>
            {
                bool isExisting = words.Flag('n');
                string device = words.Word();
                string file = words.Optional() ?? throw new CommandException("Parameter 'snapshot-file' is missing");
                return new BlockdevSnapshotSyncArguments(file, device, Format: words.Optional() ?? "qcow2",
                    Mode: isExisting ? NewImageMode.Existing : NewImageMode.AbsolutePaths);
            }),
        Completes = [Completions.Drives],
    };

    public static readonly Command Transaction = new Command<TransactionArguments, Nothing>("transaction",
        BlockSnapshotsJson.Default, static (context, a) =>
        {
            bool isGrouped = a.Properties?.CompletionMode == ActionCompletionMode.Grouped;
            foreach (TransactionAction one in a.Actions)
                if (isGrouped && one.Type is not ("blockdev-backup" or "drive-backup" or "abort"))
                    throw new CommandException($"Action '{one.Type}' does not support Transaction property "
                        + "completion-mode = grouped");
            return Run(context, isGrouped, [.. a.Actions.Select(one => Read(context, one))]);
        });

    public static readonly Command ChangeBacking = new Command<ChangeBackingFileArguments, Nothing>(
        "change-backing-file", BlockSnapshotsJson.Default, static async (context, a) =>
        {
            await context.Host.BlockJobs.ChangeBackingAsync(a.Device, a.ImageNodeName, a.BackingFile)
                .ConfigureAwait(false);
            return Nothing.Value;
        });

    static async ValueTask<Nothing> Run(CommandContext context, bool isGrouped, params BlockAction[] actions)
    {
        await context.Host.BlockJobs.TransactAsync(actions, isGrouped).ConfigureAwait(false);
        return Nothing.Value;
    }

    static BlockAction Read(CommandContext context, TransactionAction one)
    {
        return one.Type switch
        {
            "blockdev-snapshot" => Data<BlockdevSnapshotArguments>() is var a
                ? new SnapshotAction(a.Node, a.Overlay) : null!,
            "blockdev-snapshot-sync" => Data<BlockdevSnapshotSyncArguments>().Action,
            "blockdev-snapshot-internal-sync" => InternalSnapshots.ActionOf(context,
                Data<BlockdevSnapshotInternalArguments>()),
            "drive-backup" => new BackupAction(Data<DriveBackupArguments>().Request),
            "blockdev-backup" => new BackupAction(Data<BlockdevBackupArguments>().Request),
            "block-dirty-bitmap-add" => Data<DirtyBitmapAddArguments>().Action,
            "block-dirty-bitmap-merge" => Data<DirtyBitmapMergeArguments>().Action,
            "block-dirty-bitmap-remove" => Named((node, name) => new BitmapRemoveAction(node, name)),
            "block-dirty-bitmap-clear" => Named((node, name) => new BitmapClearAction(node, name)),
            "block-dirty-bitmap-enable" => Named((node, name) => new BitmapEnableAction(node, name, true)),
            "block-dirty-bitmap-disable" => Named((node, name) => new BitmapEnableAction(node, name, false)),
            "abort" => new AbortAction(),
            _ => throw new CommandException($"Parameter 'type' does not accept value '{one.Type}'"),
        };

        BlockAction Named(Func<string, string, BlockAction> make)
        {
            var a = Data<DirtyBitmapArguments>();
            return make(a.Node, a.Name);
        }

        T Data<T>() where T : class => ArgumentReader.Read(one.Data,
            (JsonTypeInfo<T>)context.Catalogue.Json.GetTypeInfo(typeof(T)));
    }
}

[JsonSerializable(typeof(BlockdevSnapshotArguments))]
[JsonSerializable(typeof(BlockdevSnapshotSyncArguments))]
[JsonSerializable(typeof(TransactionArguments))]
[JsonSerializable(typeof(ChangeBackingFileArguments))]
sealed partial class BlockSnapshotsJson : JsonSerializerContext;
