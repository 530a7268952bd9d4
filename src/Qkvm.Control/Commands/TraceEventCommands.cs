using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<TraceEventState>))]
public enum TraceEventState { Unavailable, Disabled, Enabled }

/// <param name="Name">Or a pattern with * and ?.</param>
/// <param name="Vcpu">Only of events that each vCPU has its own of; there are none.</param>
public sealed record TraceEventQuery(string Name, long? Vcpu = null);

public sealed record TraceEventChange(string Name, bool Enable, bool IgnoreUnavailable = false, long? Vcpu = null);

/// <param name="Vcpu">Each vCPU has its own state.</param>
public sealed record TraceEventInfo(string Name, bool Vcpu, TraceEventState State);

/// <summary>trace-event and info trace-events, trace-event-set-state and trace-event-get-state.</summary>
static class TraceEventCommands
{
    static readonly Completion Names = static (context, _) =>
        context.Log?.Events.All.Select(known => known.Name) ?? [];

    public static readonly Command GetState = new Command<TraceEventQuery, IReadOnlyList<TraceEventInfo>>(
        "trace-event-get-state", TraceEventJson.Default, static (context, arguments) =>
            [.. Find(context, arguments.Name, arguments.Vcpu).Select(found => new TraceEventInfo(found.Name, false,
                found.Enabled ? TraceEventState.Enabled : TraceEventState.Disabled))])
    {
        Human = new("info trace-events", "[name] [vcpu]",
            "show available trace-events & their state (name: event name pattern; vcpu: vCPU to query, default is any)",
            static words => new TraceEventQuery(words.Optional() ?? "*", words.HasMore ? words.Integer() : null),
            static (monitor, events) =>
            {
                foreach (TraceEventInfo known in events)
                    monitor.Write($"{known.Name} : state {(known.State == TraceEventState.Enabled ? 1 : 0)}\n");
            }),
        Completes = [Names],
    };

    public static readonly Command SetState = new Command<TraceEventChange, Nothing>("trace-event-set-state",
        TraceEventJson.Default, static (context, arguments) => Switch(context, arguments));

    public static readonly Command Set = new HumanCommand("trace-event", "name on|off [vcpu]",
        "changes status of a specific trace event (vcpu: vCPU to set, default is all)", static (monitor, words) =>
        {
            string name = words.Word();
            bool on = words.Switch();
            long? vcpu = words.HasMore ? words.Integer() : null;
            words.End();
            Switch(monitor.Context, new TraceEventChange(name, on, true, vcpu));
        }) { Completes = [Names, Completions.OnOff] };

    static Nothing Switch(CommandContext context, TraceEventChange change)
    {
        foreach (TraceEvent found in Find(context, change.Name, change.Vcpu)) found.Enabled = change.Enable;
        return Nothing.Value;
    }

    static List<TraceEvent> Find(CommandContext context, string name, long? vcpu)
    {
        if (vcpu is { } index && context.Machine.Cpus.All(cpu => cpu.Index != index))
            throw new CommandException($"invalid vCPU index {index}");
        List<TraceEvent> found = [.. context.Log?.Events.Match(name) ?? []];
        if (TraceEvents.IsPattern(name)) return vcpu == null ? found : [];
        if (found.Count == 0) throw new CommandException($"unknown event \"{name}\"");
        return vcpu == null ? found : throw new CommandException($"event \"{name}\" is not vCPU-specific");
    }
}

[JsonSerializable(typeof(TraceEventQuery))]
[JsonSerializable(typeof(TraceEventChange))]
[JsonSerializable(typeof(IReadOnlyList<TraceEventInfo>))]
sealed partial class TraceEventJson : JsonSerializerContext;
