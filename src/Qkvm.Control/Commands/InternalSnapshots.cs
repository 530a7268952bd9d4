using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

public sealed record BlockdevSnapshotInternalArguments(string Device, string Name);

/// <param name="Id">With the name or in its place.</param>
public sealed record BlockdevSnapshotDeleteInternalArguments(string Device, string? Id = null, string? Name = null);

/// <summary>States of a running disk that its own image keeps: blockdev-snapshot-internal-sync and
/// blockdev-snapshot-delete-internal-sync.</summary>
static class InternalSnapshots
{
    public static readonly Command Take = new Command<BlockdevSnapshotInternalArguments, Nothing>(
        "blockdev-snapshot-internal-sync", InternalSnapshotsJson.Default, static async (context, a) =>
        {
            await context.Host.BlockJobs.TransactAsync([ActionOf(context, a)]).ConfigureAwait(false);
            return Nothing.Value;
        })
    {
        Human = new("snapshot_blkdev_internal", "device name", "take an internal snapshot of device.\n\t\t\tThe format "
            + "of the image used by device must\n\t\t\tsupport it, such as qcow2.\n\t\t\t",
            static words => new BlockdevSnapshotInternalArguments(words.Word("block device name"), words.Word())),
        Completes = [Completions.Drives],
    };

    public static readonly Command Delete = new Command<BlockdevSnapshotDeleteInternalArguments, SnapshotInfo>(
        "blockdev-snapshot-delete-internal-sync", InternalSnapshotsJson.Default, static async (context, a) =>
            SnapshotInfo.Of(await context.Host.BlockJobs.DeleteSnapshotAsync(a.Device, a.Id, a.Name)
                .ConfigureAwait(false)))
    {
        Human = new("snapshot_delete_blkdev_internal", "device name [id]", "delete an internal snapshot of device."
            + "\n\t\t\tIf id is specified, qemu will try delete\n\t\t\tthe snapshot matching both id and name."
            + "\n\t\t\tThe format of the image used by device must\n\t\t\tsupport it, such as qcow2.\n\t\t\t",
            static words =>
            {
                string device = words.Word("block device name"), name = words.Word();
                return new BlockdevSnapshotDeleteInternalArguments(device, words.Optional(), name);
            }),
        Completes = [Completions.Drives],
    };

    public static InternalSnapshotAction ActionOf(CommandContext context, BlockdevSnapshotInternalArguments a) =>
        new(a.Device, a.Name, (ulong)context.Machine.Board.Clock.Nanoseconds);
}

[JsonSerializable(typeof(BlockdevSnapshotInternalArguments))]
[JsonSerializable(typeof(BlockdevSnapshotDeleteInternalArguments))]
[JsonSerializable(typeof(SnapshotInfo))]
sealed partial class InternalSnapshotsJson : JsonSerializerContext;
