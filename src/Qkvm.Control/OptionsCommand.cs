using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Control.Hmp;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>A command that takes what an option of the command line takes: a JSON object in QMP, one word
/// <c>name,key=value,…</c> in the human monitor. What the named model does not know, the model refuses.</summary>
/// <typeparam name="TArguments">The members that every such command has, for query-qmp-schema.</typeparam>
/// <param name="implied">The name of the word's first value.</param>
/// <param name="run">Main loop, under the machine lock. Throws CommandException or ConfigurationException.</param>
public sealed class OptionsCommand<TArguments, TResult>(string name, IJsonTypeInfoResolver json, string implied,
    string arguments, string help, Func<CommandContext, Options, ValueTask<TResult>> run) : Command(name)
    where TResult : class
{
    sealed record Plain(string Name, string Arguments, string Help) : HumanForm(Name, Arguments, Help);

    /// <summary>The human monitor's name, where it is not QMP's.</summary>
    public string HumanName { get; init; } = name;

    /// <summary>In the human monitor a word before the options is their id=.</summary>
    public bool StartsWithId { get; init; }

    /// <summary>Without a word it is the model's name that is missing, not a word.</summary>
    public bool MayBeEmpty { get; init; }

    public override HumanForm Form => new Plain(HumanName, arguments, help);
    public override Type? Arguments => typeof(TArguments);
    public override Type? Result => typeof(TResult);
    public override IJsonTypeInfoResolver? Json => json;

    public override async ValueTask RunAsync(CommandContext context, JsonElement given, Utf8JsonWriter result)
    {
        Options options = given.ValueKind == JsonValueKind.Undefined ? new Options(Name!) : Options.From(given, Name!);
        TResult value = await RunAsync(context, options).ConfigureAwait(false);
        JsonSerializerOptions types = context.Catalogue.Json;
        JsonSerializer.Serialize(result, value, (JsonTypeInfo<TResult>)types.GetTypeInfo(typeof(TResult)));
    }

    public override async ValueTask RunAsync(IMonitor monitor, MonitorArguments words)
    {
        string? id = StartsWithId ? words.Word() : null;
        Options options = MayBeEmpty && !words.HasMore ? new Options(Name!)
            : Options.Parse(words.Word(), Name!, implied);
        words.End();
        if (id != null) options.Add("id", id);
        await RunAsync(monitor.Context, options).ConfigureAwait(false);
    }

    /// <summary>Who asked knows what: messages need not say whose the options are.</summary>
    async ValueTask<TResult> RunAsync(CommandContext context, Options options)
    {
        const string EndOfOwner = ": ";
        try { return await context.BackOnLoop(run(context, options)).ConfigureAwait(false); }
        catch (ConfigurationException e) when (e.Message.StartsWith(Name!, StringComparison.Ordinal))
        {
            int end = e.Message.IndexOf(EndOfOwner, StringComparison.Ordinal);
            throw new CommandException(end < 0 ? e.Message : e.Message[(end + EndOfOwner.Length)..], inner: e);
        }
    }
}
