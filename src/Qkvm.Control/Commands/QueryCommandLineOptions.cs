using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <param name="Type">"string", "boolean", "number" or "size".</param>
public sealed record CommandLineParameterInfo(string Name, string Type);

public sealed record CommandLineOptionInfo(string Option, IReadOnlyList<CommandLineParameterInfo> Parameters);

/// <param name="Option">Null for all.</param>
public sealed record CommandLineOptionArguments(string? Option = null);

static class QueryCommandLineOptions
{
    public static readonly Command Command = new Command<CommandLineOptionArguments,
        IReadOnlyList<CommandLineOptionInfo>>("query-command-line-options", CommandLineJson.Default,
        static (context, arguments) =>
        {
            CommandLineOptionInfo[] found = [.. context.CommandLineOptions.Value
                .Where(option => arguments.Option == null || option.Option == arguments.Option)];
            return found.Length > 0 || arguments.Option == null ? found
                : throw new Core.Machine.CommandException($"invalid option name: {arguments.Option}");
        });
}

[JsonSerializable(typeof(CommandLineOptionArguments))]
[JsonSerializable(typeof(IReadOnlyList<CommandLineOptionInfo>))]
sealed partial class CommandLineJson : JsonSerializerContext;
