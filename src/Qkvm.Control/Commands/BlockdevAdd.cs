using System.Text.Json.Serialization;
using Qkvm.Core.Block;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>Beside these, what the driver takes.</summary>
public sealed record BlockdevAddArguments(string Driver, string? NodeName = null);

public sealed record BlockdevDeleteArguments(string NodeName);

/// <summary>blockdev-add and blockdev-del: -blockdev while the machine runs.</summary>
static class BlockdevAdd
{
    public static readonly Command Add = new OptionsCommand<BlockdevAddArguments, Nothing>("blockdev-add",
        BlockdevAddJson.Default, "driver", "[driver=]driver,node-name=str[,prop=value][,...]", "add block node",
        static async (context, options) =>
        {
            string driver = options.Text("driver") ?? throw new CommandException("Parameter 'driver' is missing");
            string node = options.Text("node-name")
                ?? throw new CommandException("'node-name' must be specified for the root node");
            Identifier.Check(node, options.Owner);
            await context.Host.AddNodeAsync(new BlockdevConfig(node, driver, options)).ConfigureAwait(false);
            return Nothing.Value;
        })
    {
        Models = ModelKind.BlockDriver,
        HumanName = "blockdev_add",
        Completes = [Hmp.Completions.Models(ModelKind.BlockDriver)],
    };

    public static readonly Command Delete = new Command<BlockdevDeleteArguments, Nothing>("blockdev-del",
        BlockdevAddJson.Default, static async (context, arguments) =>
    {
        await context.Host.RemoveNodeAsync(arguments.NodeName).ConfigureAwait(false);
        return Nothing.Value;
    })
    {
        Human = new("blockdev_del", "node-name", "remove block node",
            words => new BlockdevDeleteArguments(words.Word())),
        Completes = [Hmp.Completions.Nodes],
    };
}

[JsonSerializable(typeof(BlockdevAddArguments))]
[JsonSerializable(typeof(BlockdevDeleteArguments))]
sealed partial class BlockdevAddJson : JsonSerializerContext;
