using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Device">The drive's id.</param>
/// <param name="Id">The device's id or path.</param>
public sealed record EjectArguments(string? Device = null, string? Id = null, bool Force = false);

/// <summary>eject: the tray opens and the medium leaves it.</summary>
static class Eject
{
    public static readonly Command Command = new Command<EjectArguments, Nothing>("eject", EjectJson.Default,
        static async (context, arguments) =>
        {
            BlockDrive drive = BlockDrive.Find(context, arguments.Device, arguments.Id);
            drive.OpenTray(arguments.Force);
            await drive.RemoveMediumAsync().ConfigureAwait(false);
            return Nothing.Value;
        })
    {
        Human = new("eject", "[-f] device", "eject a removable medium (use -f to force it)", words =>
        {
            bool force = words.Flag('f');
            return new EjectArguments(words.Word("block device name"), Force: force);
        }),
        Completes = [Completions.Drives],
    };
}

[JsonSerializable(typeof(EjectArguments))]
sealed partial class EjectJson : JsonSerializerContext;
