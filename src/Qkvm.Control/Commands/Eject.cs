using System.Text.Json.Serialization;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Device">The drive's id.</param>
public sealed record EjectArguments(string Device, bool Force = false);

/// <summary>eject: the medium leaves a drive. The drive's last requests and the image's flush end first; the machine
/// runs on meanwhile.</summary>
static class Eject
{
    public static readonly Command Command = new Command<EjectArguments, Nothing>("eject", EjectJson.Default, RunAsync)
    {
        Human = new("eject", "[-f] device", "eject a removable medium (use -f to force it)", words =>
        {
            bool force = words.Flag("-f");
            return new EjectArguments(words.Word("device"), force);
        }),
    };

    static async ValueTask<Nothing> RunAsync(CommandContext context, EjectArguments arguments)
    {
        BlockBackend drive = context.Backends.Drives.GetValueOrDefault(arguments.Device)
            ?? throw CommandException.DeviceNotFound(arguments.Device);
        if (drive.Root is not { } medium) return Nothing.Value;
        await Idle(drive).ConfigureAwait(false);
        if (drive.Root != medium) return Nothing.Value;            // another command was faster
        drive.Insert(null);
        await Idle(drive).ConfigureAwait(false);                   // what a loop began meanwhile
        await Task.Run(async () => await medium.DisposeAsync().ConfigureAwait(false)).ConfigureAwait(false);
        return Nothing.Value;
    }

    /// <summary>What awaits it goes on under the machine lock.</summary>
    static Task Idle(BlockBackend drive)
    {
        var idle = new TaskCompletionSource();
        drive.WhenIdle(idle.SetResult);
        return idle.Task;
    }
}

[JsonSerializable(typeof(EjectArguments))]
sealed partial class EjectJson : JsonSerializerContext;
