using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>What is not given stays.</summary>
public sealed record SetActionArguments(RebootAction? Reboot = null, ShutdownAction? Shutdown = null,
    PanicAction? Panic = null, WatchdogAction? Watchdog = null);

public sealed record WatchdogActionArguments(WatchdogAction Action);

/// <summary>set-action: -action while the machine runs.</summary>
static class SetAction
{
    static readonly Dictionary<string, WatchdogAction> s_watchdog = Enum.GetValues<WatchdogAction>()
        .ToDictionary(action => JsonNamingPolicy.KebabCaseLower.ConvertName(action.ToString()));

    public static readonly Command Command = new Command<SetActionArguments, Nothing>("set-action",
        SetActionJson.Default, static (context, arguments) =>
        {
            GuestActions now = context.Machine.Actions;
            context.Machine.Actions = new(arguments.Reboot ?? now.Reboot, arguments.Shutdown ?? now.Shutdown,
                arguments.Panic ?? now.Panic, arguments.Watchdog ?? now.Watchdog);
            return Nothing.Value;
        }) { AllowsOutOfBand = true };

    public static readonly Command Watchdog = new Command<WatchdogActionArguments, Nothing>("watchdog-set-action",
        SetActionJson.Default, static (context, arguments) =>
        {
            context.Machine.Actions = context.Machine.Actions with { Watchdog = arguments.Action };
            return Nothing.Value;
        })
    {
        Human = new("watchdog_action", "[reset|shutdown|poweroff|pause|debug|none]", "change watchdog action",
            static words =>
            {
                string word = words.Word();
                return s_watchdog.TryGetValue(word, out WatchdogAction action) ? new(action)
                    : throw new CommandException($"invalid parameter value: {word}");
            }),
        Completes = [(_, _) => s_watchdog.Keys],
    };
}

[JsonSerializable(typeof(SetActionArguments))]
[JsonSerializable(typeof(WatchdogActionArguments))]
sealed partial class SetActionJson : JsonSerializerContext;
