using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Options">Of each node all that blockdev-add takes, and its node-name.</param>
public sealed record BlockdevReopenArguments(IReadOnlyList<JsonElement> Options);

/// <summary>blockdev-reopen: nodes get other options while they are used.</summary>
static class BlockdevReopen
{
    const string Name = "blockdev-reopen";

    public static readonly Command Command = new Command<BlockdevReopenArguments, Nothing>(Name,
        BlockdevReopenJson.Default, static async (context, a) =>
        {
            try
            {
                Options[] nodes = [.. a.Options.Select(static one => Options.From(one, Name))];
                await context.Host.BlockJobs.ReopenAsync(nodes).ConfigureAwait(false);
            }
            catch (ConfigurationException e) when (e.Message.StartsWith($"{Name}: ", StringComparison.Ordinal))
            {
                throw new CommandException(e.Message[(Name.Length + 2)..], inner: e);
            }
            return Nothing.Value;
        }) { Models = ModelKind.BlockDriver, ModelsIn = ("options", typeof(BlockdevAddArguments)) };
}

[JsonSerializable(typeof(BlockdevReopenArguments))]
sealed partial class BlockdevReopenJson : JsonSerializerContext;
