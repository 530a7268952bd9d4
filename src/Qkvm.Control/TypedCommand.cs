using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>A command as a method from one record to another.</summary>
/// <typeparam name="TArguments">A record: constructor parameters without a default are required. Names become QMP's:
/// CpuIndex is cpu-index.</typeparam>
/// <typeparam name="TResult">A record, or a list of records.</typeparam>
public sealed class Command<TArguments, TResult> : Command
    where TArguments : class
    where TResult : class
{
    readonly Func<CommandContext, TArguments, ValueTask<TResult>> _run;

    /// <param name="json">The source-generated context that describes both records; null with a null name.</param>
    /// <param name="run">Main loop, under the machine lock. Throws <see cref="CommandException"/>.</param>
    public Command(string? name, IJsonTypeInfoResolver? json, Func<CommandContext, TArguments, TResult> run)
        : this(name, json, (context, arguments) => new ValueTask<TResult>(run(context, arguments))) { }

    /// <summary>For what answers later: its client waits, the machine goes on.</summary>
    public Command(string? name, IJsonTypeInfoResolver? json, Func<CommandContext, TArguments, ValueTask<TResult>> run)
        : base(name)
    {
        (Json, _run) = (json, run);
    }

    public HumanForm<TArguments, TResult>? Human { get; init; }

    public override HumanForm? Form => Human;
    public override Type? Arguments => Json == null ? null : typeof(TArguments);
    public override Type? Result => Json == null ? null : typeof(TResult);
    public override IJsonTypeInfoResolver? Json { get; }

    public override async ValueTask RunAsync(CommandContext context, JsonElement arguments, Utf8JsonWriter result)
    {
        JsonSerializerOptions json = context.Catalogue.Json;
        TArguments read =
            ArgumentReader.Read(arguments, (JsonTypeInfo<TArguments>)json.GetTypeInfo(typeof(TArguments)));
        TResult value = await context.BackOnLoop(_run(context, read)).ConfigureAwait(false);
        JsonSerializer.Serialize(result, value, (JsonTypeInfo<TResult>)json.GetTypeInfo(typeof(TResult)));
    }

    public override async ValueTask RunAsync(IMonitor monitor, MonitorArguments words)
    {
        HumanForm<TArguments, TResult> form = Human!;
        TArguments read = form.Parse is { } parse ? parse(words)
            : Nothing.Value as TArguments ?? ArgumentReader.Read(default,
                (JsonTypeInfo<TArguments>)monitor.Context.Catalogue.Json.GetTypeInfo(typeof(TArguments)));
        words.End();
        TResult value = await monitor.Context.BackOnLoop(_run(monitor.Context, read)).ConfigureAwait(false);
        form.Print?.Invoke(monitor, value);
    }
}

/// <summary>A command of the human monitor alone: it shows what programs have no use for.</summary>
public sealed class HumanCommand(string name, string arguments, string help, Action<IMonitor, MonitorArguments> run)
    : Command(null)
{
    sealed record Plain(string Name, string Arguments, string Help) : HumanForm(Name, Arguments, Help);

    public override HumanForm Form { get; } = new Plain(name, arguments, help);
    public override Type? Arguments => null;
    public override Type? Result => null;
    public override IJsonTypeInfoResolver? Json => null;

    public override ValueTask RunAsync(CommandContext context, JsonElement arguments, Utf8JsonWriter result) =>
        throw new InvalidOperationException($"{name} has no form in QMP");

    public override ValueTask RunAsync(IMonitor monitor, MonitorArguments words)
    {
        run(monitor, words);
        return default;
    }
}
