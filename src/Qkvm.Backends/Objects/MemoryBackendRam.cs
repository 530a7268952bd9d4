using Qkvm.Core.Machine;

namespace Qkvm.Backends.Objects;

/// <summary>-object memory-backend-ram: the guest's memory, when -machine memory-backend= names it.</summary>
public static class MemoryBackendRam
{
    public static readonly ObjectModel Model = new("memory-backend-ram",
        [
            Property.Size("size", help: "bytes"), Property.Bool("prealloc", false,
                "all pages exist before the guest runs"),
            Property.OnOffAuto("dump", "part of core dumps"), Property.OnOffAuto("merge", "equal pages may become one"),
            Property.Missing("share", "off"), Property.Missing("reserve", "on"), Property.Missing("policy", "default"),
            Property.Missing("host-nodes"),
            Property.Text("prealloc-threads", help: "taken, no effect"),
            Property.Text("x-use-canonical-path-for-ramblock-id", help: "taken, no effect"),
        ],
        static (properties, _) =>
        {
            ulong size = properties.NumberOrAuto("size") ?? throw properties.Error("needs size=");
            if (size == 0 || size % 4096 != 0) throw properties.Error($"size={size} is no multiple of 4096 bytes");
            return new MemoryBackend(size, properties.Bool("prealloc"), properties.OnOffAuto("dump"),
                properties.OnOffAuto("merge"));
        }) { Description = "memory of this process" };
}
