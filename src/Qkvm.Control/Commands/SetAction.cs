using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>What is not given stays.</summary>
public sealed record SetActionArguments(RebootAction? Reboot = null, ShutdownAction? Shutdown = null,
    PanicAction? Panic = null);

/// <summary>set-action: -action while the machine runs.</summary>
static class SetAction
{
    public static readonly Command Command = new Command<SetActionArguments, Nothing>("set-action",
        SetActionJson.Default, static (context, arguments) =>
        {
            GuestActions now = context.Machine.Actions;
            context.Machine.Actions = new(arguments.Reboot ?? now.Reboot, arguments.Shutdown ?? now.Shutdown,
                arguments.Panic ?? now.Panic);
            return Nothing.Value;
        }) { AllowsOutOfBand = true };
}

[JsonSerializable(typeof(SetActionArguments))]
sealed partial class SetActionJson : JsonSerializerContext;
