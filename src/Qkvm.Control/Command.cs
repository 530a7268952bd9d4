using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Control.Hmp;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>Something that can be asked of a machine: by name and a JSON object in QMP, by a typed line in the human
/// monitor, or both.
/// Stands in its own file beside its records; <see cref="CommandCatalogue"/> has a line for it, and all else is read
/// from here.</summary>
/// <param name="name">QMP's name; null for what only the human monitor knows.</param>
public abstract class Command(string? name)
{
    public string? Name { get; } = name;

    /// <summary>QMP runs it at once, before what was asked earlier, where a client sends exec-oob.</summary>
    public bool AllowsOutOfBand { get; init; }

    /// <summary>How the human monitor shows it; null for what only QMP knows.</summary>
    public abstract HumanForm? Form { get; }

    /// <summary>What its words may be, one after the other, for the human monitor's tab key.</summary>
    public Completion[] Completes { get; init; } = [];

    /// <summary>The records of arguments and result, for query-qmp-schema; null where QMP does not know the
    /// command.</summary>
    public abstract Type? Arguments { get; }
    public abstract Type? Result { get; }

    /// <summary>Whose options it takes beside <see cref="Arguments"/>: those of any model of a kind, which the
    /// arguments name.</summary>
    public ModelKind? Models { get; init; }

    /// <summary>Of a command that takes several of them: the argument that is their list, and the record of what each
    /// has beside its model's options.</summary>
    public (string Argument, Type Item)? ModelsIn { get; init; }

    /// <summary>Where the descriptions of those records are found.</summary>
    public abstract IJsonTypeInfoResolver? Json { get; }

    /// <summary>Runs it for QMP. Main loop, under the machine lock; a task that is not complete ends there
    /// too.</summary>
    /// <param name="arguments">A JSON object, or default for none.</param>
    /// <exception cref="CommandException">Arguments that do not fit, or what the command itself says.</exception>
    public abstract ValueTask RunAsync(CommandContext context, JsonElement arguments, Utf8JsonWriter result);

    /// <summary>Runs it for the human monitor and prints the result. As
    /// <see cref="RunAsync(CommandContext, JsonElement, Utf8JsonWriter)"/>.</summary>
    public abstract ValueTask RunAsync(IMonitor monitor, MonitorArguments words);

    /// <summary>What a user did wrong, as a command's error; null for faults of ours.</summary>
    public static CommandException? ErrorOf(Exception e) => e switch
    {
        CommandException known => known,
        ConfigurationException or IOException or UnauthorizedAccessException =>
            new CommandException(e.Message, inner: e),
        _ => null,
    };
}

/// <summary>How the human monitor writes a command.</summary>
/// <param name="Name">"quit|q": alternatives are separated by a bar. "info status" is an item of `info`.</param>
/// <param name="Arguments">As help shows them.</param>
public abstract record HumanForm(string Name, string Arguments, string Help)
{
    const string Info = "info ";

    public bool IsInfo { get; } = Name.StartsWith(Info, StringComparison.Ordinal);

    /// <summary>Without "info".</summary>
    public string[] Names { get; } = (Name.StartsWith(Info, StringComparison.Ordinal) ? Name[Info.Length..] : Name)
        .Split('|');

    public string HelpLine => $"{Name} {Arguments} -- {Help}";
}

/// <param name="Parse">Takes the typed words; null for a command without arguments. Throws
/// <see cref="MonitorException"/>.</param>
/// <param name="Print">Writes the result as QEMU does; null for a command that answers nothing.</param>
public sealed record HumanForm<TArguments, TResult>(string Name, string Arguments, string Help,
    Func<MonitorArguments, TArguments>? Parse = null,
    Action<IMonitor, TResult>? Print = null) : HumanForm(Name, Arguments, Help);

/// <summary>Arguments of commands that take none, and the result of those that answer nothing: an empty
/// object.</summary>
public sealed record Nothing
{
    public static readonly Nothing Value = new();
}
