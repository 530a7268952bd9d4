using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <param name="BaseMemory">Bytes of RAM that the machine started with.</param>
/// <param name="PluggedMemory">Bytes of memory devices.</param>
public sealed record MemorySizeInfo([property: JsonPropertyName("base-memory")] long BaseMemory,
    [property: JsonPropertyName("plugged-memory")] long PluggedMemory);

static class QueryMemorySize
{
    public static readonly Command Command = new Command<Nothing, MemorySizeInfo>("query-memory-size-summary",
        MemorySizeJson.Default, (context, _) => new MemorySizeInfo((long)context.Machine.Config.Memory.Size,
            QueryMemoryDevices.Plugged(context)))
    {
        Human = new("info memory_size_summary", "", "show the amount of initially allocated and present hotpluggable "
            + "(if enabled) memory in bytes.", null,
            (monitor, info) =>
                monitor.Write($"base memory: {info.BaseMemory}\nplugged memory: {info.PluggedMemory}\n")),
    };
}

[JsonSerializable(typeof(MemorySizeInfo))]
sealed partial class MemorySizeJson : JsonSerializerContext;
