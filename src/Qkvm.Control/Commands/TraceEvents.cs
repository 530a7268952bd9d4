using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

/// <summary>trace-event and info trace-events. There are no trace events yet, so that none is found.</summary>
static class TraceEvents
{
    public static readonly Command Set = new HumanCommand("trace-event", "name on|off [vcpu]",
        "changes status of a specific trace event (vcpu: vCPU to set, default is all)", static (_, words) =>
        {
            string name = words.Word();
            words.Switch();
            if (words.HasMore) words.Integer();
            words.End();
            if (!name.Contains('*')) throw new MonitorException($"unknown event \"{name}\"");
        }) { Completes = [Completions.Words(), Completions.OnOff] };

    public static readonly Command List = new HumanCommand("info trace-events", "[name] [vcpu]",
        "show available trace-events & their state (name: event name pattern; vcpu: vCPU to query, default is any)",
        static (_, words) =>
        {
            string? name = words.Optional();
            if (words.HasMore) words.Integer();
            words.End();
            if (name != null && !name.Contains('*')) throw new MonitorException($"unknown event \"{name}\"");
        });
}
