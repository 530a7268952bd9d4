using System.Text.Json.Serialization;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>Beside these, what the driver takes.</summary>
public sealed record DeviceAddArguments(string Driver, string? Bus = null, string? Id = null);

/// <summary>device_add: -device while the machine runs.</summary>
static class DeviceAdd
{
    public static readonly Command Command = new OptionsCommand<DeviceAddArguments, Nothing>("device_add",
        DeviceAddJson.Default, "driver", "driver[,prop=value][,...]", "add device, like -device on the command line",
        static (context, options) =>
        {
            string driver = options.Text("driver") ?? throw new CommandException("Parameter 'driver' is missing");
            string? id = options.Text("id");
            string brief = $"{options.Owner} {driver}{(id == null ? "" : $",id={id}")}";
            Identifier.Check(id, brief);
            context.Machine.AddDevice(new DeviceConfig(driver, id, options.Rest, brief));
            return new(Nothing.Value);
        }) { MayBeEmpty = true, Completes = [Hmp.Completions.Models(ModelKind.Device)] };
}

[JsonSerializable(typeof(DeviceAddArguments))]
sealed partial class DeviceAddJson : JsonSerializerContext;
