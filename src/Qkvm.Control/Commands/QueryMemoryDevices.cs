using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <param name="Type">"dimm", "nvdimm", "virtio-mem".</param>
public sealed record MemoryDeviceInfo(string Type);

/// <summary>query-memory-devices: no memory can be plugged yet, so there are none.</summary>
static class QueryMemoryDevices
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<MemoryDeviceInfo>>(
        "query-memory-devices", MemoryDevicesJson.Default, static (_, _) => [])
    {
        Human = new("info memory-devices", "", "show memory devices", null, static (_, _) => { }),
    };
}

[JsonSerializable(typeof(IReadOnlyList<MemoryDeviceInfo>))]
sealed partial class MemoryDevicesJson : JsonSerializerContext;
