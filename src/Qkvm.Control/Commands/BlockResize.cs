using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Device">The drive's id; or else the node's name is given.</param>
/// <param name="Size">Bytes.</param>
public sealed record BlockResizeArguments(long Size, string? Device = null, string? NodeName = null);

/// <summary>block_resize: an image grows or shrinks while the guest uses it, and the guest hears of it.</summary>
static class BlockResize
{
    const long Sector = 512;

    public static readonly Command Command = new Command<BlockResizeArguments, Nothing>("block_resize",
        BlockResizeJson.Default, RunAsync)
    {
        Human = new("block_resize", "device size", "resize a block image", static words =>
        {
            string device = words.Word("block device name");
            return Sizes.TryParse(words.Optional() ?? "", 1 << 20, out ulong bytes) && bytes <= long.MaxValue
                ? new BlockResizeArguments((long)bytes, device) : throw words.Error("invalid size");
        }),
        Completes = [Completions.Drives],
    };

    static async ValueTask<Nothing> RunAsync(CommandContext context, BlockResizeArguments arguments)
    {
        if (arguments.Size < 0) throw new CommandException("Parameter 'size' expects a >0 size");
        BlockDriver node = Find(context, arguments);
        if (node.IsReadOnly) throw new CommandException($"Node '{node.NodeName}' is read only");
        try
        {
            await context.Host.ResizeAsync(node, (arguments.Size + Sector - 1) / Sector * Sector)
                .ConfigureAwait(false);
        }
        catch (BlockException e) { throw new CommandException(e.Message, inner: e); }
        context.Machine.Board.Post(() =>
        {
            foreach (BlockBackend drive in context.Backends.Drives.Values)
                if (drive.Root is { } root && IsOver(root, node)) drive.TellLength();
        });
        return Nothing.Value;
    }

    static BlockDriver Find(CommandContext context, BlockResizeArguments arguments)
    {
        if (arguments is { Device: null, NodeName: null } or { Device: not null, NodeName: not null })
            throw new CommandException("either 'device' or 'node-name' is needed");
        string name = (arguments.Device ?? arguments.NodeName)!;
        if (arguments.Device != null && context.Backends.Drives.TryGetValue(name, out BlockBackend? drive))
            return drive.Root ?? throw new CommandException($"Device '{name}' has no medium");
        return context.Host.Nodes.FirstOrDefault(node => node.NodeName == name)
            ?? throw CommandException.DeviceNotFound(name);
    }

    static bool IsOver(BlockDriver top, BlockDriver node) =>
        top == node || top.Children.Any(child => IsOver(child.Node, node));
}

[JsonSerializable(typeof(BlockResizeArguments))]
sealed partial class BlockResizeJson : JsonSerializerContext;
