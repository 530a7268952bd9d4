using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Graph;

/// <summary>QEMU's cache modes: O_DIRECT, flushes ignored, data may wait for a flush.</summary>
public readonly record struct CacheMode(bool Direct, bool NoFlush, bool Writeback)
{
    public static readonly CacheMode Default = new(false, false, true);

    /// <summary>cache=MODE, and cache.direct=, cache.no-flush=, cache.writeback= where those are given
    /// instead.</summary>
    public static CacheMode Of(Options options, CacheMode inherited)
    {
        if (options.Text("cache") is { } name) return Named(name);
        if (options.Nested("cache") is not { } cache) return inherited;
        var mode = new CacheMode(cache.Bool("direct") ?? inherited.Direct, cache.Bool("no-flush") ?? inherited.NoFlush,
            cache.Bool("writeback") ?? inherited.Writeback);
        cache.Close();
        return mode;
    }

    static CacheMode Named(string name) => Find(name)
        ?? throw new ConfigurationException($"Invalid cache option '{name}'; there are none, writeback, unsafe, " +
            "directsync and writethrough");

    /// <summary>The mode of that name, or null.</summary>
    public static CacheMode? Find(string name) => name switch
    {
        "writeback" => Default,
        "none" or "off" => new(true, false, true),
        "writethrough" => new(false, false, false),
        "unsafe" => new(false, true, true),
        "directsync" => new(true, false, false),
        _ => null,
    };
}
