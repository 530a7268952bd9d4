using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

public sealed record CommandInfo(string Name);

static class QueryCommands
{
    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<CommandInfo>>("query-commands", CommandsJson.Default,
        (context, _) =>
            [.. context.Catalogue.Commands.Where(c => c.Name != null).Select(c => new CommandInfo(c.Name!))]);
}

[JsonSerializable(typeof(IReadOnlyList<CommandInfo>))]
sealed partial class CommandsJson : JsonSerializerContext;
