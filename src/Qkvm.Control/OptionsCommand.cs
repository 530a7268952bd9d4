using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Control.Hmp;
using Qkvm.Core.Configuration;

namespace Qkvm.Control;

/// <summary>A command that takes what an option of the command line takes: a JSON object in QMP, one word
/// <c>name,key=value,…</c> in the human monitor. What the named model does not know, the model refuses.</summary>
/// <typeparam name="TArguments">The members that every such command has, for query-qmp-schema.</typeparam>
/// <param name="implied">The name of the word's first value.</param>
/// <param name="run">Main loop, under the machine lock. Throws CommandException or ConfigurationException.</param>
public sealed class OptionsCommand<TArguments>(string name, IJsonTypeInfoResolver json, string implied,
    string arguments, string help, Action<CommandContext, Options> run) : Command(name)
{
    sealed record Plain(string Name, string Arguments, string Help) : HumanForm(Name, Arguments, Help);

    public override HumanForm Form { get; } = new Plain(name, arguments, help);
    public override Type? Arguments => typeof(TArguments);
    public override Type? Result => typeof(Nothing);
    public override IJsonTypeInfoResolver? Json => json;

    public override ValueTask RunAsync(CommandContext context, JsonElement given, Utf8JsonWriter result)
    {
        run(context, given.ValueKind == JsonValueKind.Undefined ? new Options(Name!) : Options.From(given, Name!));
        result.WriteStartObject();
        result.WriteEndObject();
        return default;
    }

    public override ValueTask RunAsync(IMonitor monitor, MonitorArguments words)
    {
        Options options = Options.Parse(words.Word(implied), Name!, implied);
        words.End();
        run(monitor.Context, options);
        return default;
    }
}
