using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <param name="WakeupSuspendSupport">The guest can sleep, and system_wakeup wakes it.</param>
public sealed record CurrentMachine(bool WakeupSuspendSupport);

/// <summary>query-current-machine.</summary>
static class QueryCurrentMachine
{
    public static readonly Command Command = new Command<Nothing, CurrentMachine>("query-current-machine",
        CurrentMachineJson.Default, static (context, _) => new CurrentMachine(context.Machine.CanSleep));
}

[JsonSerializable(typeof(CurrentMachine))]
sealed partial class CurrentMachineJson : JsonSerializerContext;
