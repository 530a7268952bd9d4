using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<BlockExportType>))]
public enum BlockExportType { Nbd, VhostUserBlk, Fuse, VduseBlk }

[JsonConverter(typeof(NamedEnum<BlockExportRemoveMode>))]
public enum BlockExportRemoveMode { Safe, Hard }

/// <param name="Bitmaps">Names, or objects with node and name.</param>
/// <param name="Name">As clients ask for it; the node's name by default.</param>
/// <param name="Writethrough">What clients write is on stable storage when they are answered.</param>
/// <param name="AllocationDepth">Clients may ask which layer has what.</param>
public sealed record BlockExportAddArguments(BlockExportType Type, string Id, string NodeName, bool Writable = false,
    bool Writethrough = false, string? Iothread = null, bool FixedIothread = false, string? Name = null,
    string? Description = null, IReadOnlyList<JsonElement>? Bitmaps = null, bool AllocationDepth = false);

public sealed record BlockExportDeleteArguments(string Id,
    BlockExportRemoveMode Mode = BlockExportRemoveMode.Safe);

/// <param name="Device">A drive or a node.</param>
/// <param name="Name">The device's by default.</param>
public sealed record NbdServerAddArguments(string Device, string? Name = null, string? Description = null,
    bool Writable = false, string? Bitmap = null);

public sealed record NbdServerRemoveArguments(string Name, BlockExportRemoveMode Mode = BlockExportRemoveMode.Safe);

public sealed record BlockExportEntry(string NodeName, bool ShuttingDown, BlockExportType Type, string Id);

/// <summary>Nodes that other programs may use: block-export-add and -del, query-block-exports, and the older
/// nbd-server-add and -remove.</summary>
static class BlockExportCommands
{
    public static readonly Command Add = new Command<BlockExportAddArguments, Nothing>("block-export-add",
        BlockExportJson.Default, static (context, arguments) =>
        {
            if (arguments.Type != BlockExportType.Nbd)
                throw new CommandException("exports of this type are not built yet; there is nbd");
            if (arguments.Iothread != null)
                throw new CommandException("iothread is not built yet; leave it out: each client has threads of its "
                    + "own");
            Identifier.Check(arguments.Id, "block-export-add");
            context.Host.Exports.Add(new BlockExportOptions(arguments.Id, arguments.NodeName,
                arguments.Name ?? arguments.NodeName, arguments.Writable, arguments.Writethrough,
                arguments.Description ?? "", arguments.AllocationDepth)
            {
                Bitmaps = DirtyBitmaps.Names(arguments.Bitmaps ?? []),
            });
            return Nothing.Value;
        });

    public static readonly Command Delete = new Command<BlockExportDeleteArguments, Nothing>("block-export-del",
        BlockExportJson.Default, static (context, arguments) =>
            Begin(context, arguments.Id, arguments.Mode));

    public static readonly Command Query = new Command<Nothing, IReadOnlyList<BlockExportEntry>>("query-block-exports",
        BlockExportJson.Default, static (context, _) => context.Host.Exports.All
            .Select(one => new BlockExportEntry(one.NodeName, one.IsClosing, BlockExportType.Nbd, one.Id)).ToArray());

    public static readonly Command ServerAdd = new Command<NbdServerAddArguments, Nothing>("nbd-server-add",
        BlockExportJson.Default, static (context, arguments) =>
        {
            string name = arguments.Name ?? arguments.Device;
            context.Host.Exports.Add(new BlockExportOptions(name, arguments.Device, name, arguments.Writable,
                Description: arguments.Description ?? "")
            {
                Bitmaps = arguments.Bitmap is { } bitmap ? [new BitmapName(null, bitmap)] : [],
            });
            return Nothing.Value;
        })
    {
        Human = new("nbd_server_add", "[-w] device [name]", "export a block device via NBD", static words =>
        {
            bool isWritable = words.Flag('w');
            return new NbdServerAddArguments(words.Word(), words.Optional(), Writable: isWritable);
        }),
        Completes = [Completions.Drives],
    };

    public static readonly Command ServerRemove = new Command<NbdServerRemoveArguments, Nothing>("nbd-server-remove",
        BlockExportJson.Default, static (context, arguments) => Begin(context, arguments.Name, arguments.Mode))
    {
        Human = new("nbd_server_remove", "[-f] name", "remove an export previously exposed via NBD", static words =>
        {
            bool isForced = words.Flag('f');
            return new NbdServerRemoveArguments(words.Word(),
                isForced ? BlockExportRemoveMode.Hard : BlockExportRemoveMode.Safe);
        }),
    };

    /// <summary>Begins to remove an export: BLOCK_EXPORT_DELETED tells the end.</summary>
    static Nothing Begin(CommandContext context, string id, BlockExportRemoveMode mode)
    {
        Task removing = RemoveAsync(context, id, mode == BlockExportRemoveMode.Hard).AsTask();
        if (removing.IsFaulted) removing.GetAwaiter().GetResult();
        return Nothing.Value;
    }

    /// <summary>Removes an export and tells of it.</summary>
    public static async ValueTask RemoveAsync(CommandContext context, string id, bool hard)
    {
        bool isFirst = await context.BackOnLoop(context.Host.Exports.RemoveAsync(id, hard)).ConfigureAwait(false);
        if (isFirst) context.Machine.Events.Raise(new BlockExportDeletedEvent(id));
    }
}

[JsonSerializable(typeof(BlockExportAddArguments))]
[JsonSerializable(typeof(BlockExportDeleteArguments))]
[JsonSerializable(typeof(NbdServerAddArguments))]
[JsonSerializable(typeof(NbdServerRemoveArguments))]
[JsonSerializable(typeof(IReadOnlyList<BlockExportEntry>))]
sealed partial class BlockExportJson : JsonSerializerContext;
