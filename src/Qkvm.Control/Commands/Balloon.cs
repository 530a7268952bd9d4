using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Actual">Bytes that the guest has.</param>
public sealed record BalloonInfo(ulong Actual);

/// <param name="Value">Bytes that the guest shall have.</param>
public sealed record BalloonArguments(long Value);

static class Balloon
{
    public static readonly Command Query = new Command<Nothing, BalloonInfo>("query-balloon", BalloonJson.Default,
        (context, _) => new BalloonInfo(context.Machine.Board.MemorySize - Find(context).Given))
    {
        Human = new("info balloon", "", "show balloon information", null,
            (monitor, info) => monitor.Write($"balloon: actual={info.Actual >> 20}\n")),
    };

    public static readonly Command Set = new Command<BalloonArguments, Nothing>("balloon", BalloonJson.Default,
        (context, arguments) =>
    {
        IBalloon balloon = Find(context);
        if (arguments.Value <= 0) throw new CommandException("Parameter 'target' expects a size");
        ulong size = context.Machine.Board.MemorySize;
        balloon.Ask(size - Math.Min(size, (ulong)arguments.Value));
        return Nothing.Value;
    })
    {
        Human = new("balloon", "target", "request VM to change its memory allocation (in MB)", words =>
        {
            ulong megabytes = words.Number();
            return megabytes < 1UL << 40 ? new BalloonArguments((long)(megabytes << 20))
                : throw words.Error("number too large");
        }),
    };

    static IBalloon Find(CommandContext context) => context.Find<IBalloon>()
        ?? throw new CommandException("No balloon device has been activated", ErrorClass.DeviceNotActive);
}

[JsonSerializable(typeof(BalloonInfo))]
[JsonSerializable(typeof(BalloonArguments))]
sealed partial class BalloonJson : JsonSerializerContext;
