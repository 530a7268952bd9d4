using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

public sealed record DeviceDeleteArguments(string Id);

/// <summary>device_del. DEVICE_DELETED says when the device has gone.</summary>
static class DeviceDelete
{
    public static readonly Command Command =
        new Command<DeviceDeleteArguments, Nothing>("device_del", DeviceDeleteJson.Default, (context, arguments) =>
    {
        context.Machine.RemoveDevice(arguments.Id);
        return Nothing.Value;
    })
    {
        Human = new("device_del", "device", "remove device", words => new DeviceDeleteArguments(words.Word())),
        Completes = [Hmp.Completions.Devices],
    };
}

[JsonSerializable(typeof(DeviceDeleteArguments))]
sealed partial class DeviceDeleteJson : JsonSerializerContext;
