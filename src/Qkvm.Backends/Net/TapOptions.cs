using Qkvm.Core.Machine;

namespace Qkvm.Backends.Net;

/// <summary>-netdev tap as users type it.</summary>
/// <param name="InterfaceName">ifname=; null lets the kernel number one.</param>
/// <param name="Script">Runs when the interface is there; "no" or empty for none.</param>
/// <param name="Fds">fd= or fds=: open tap descriptors, one a queue, which exclude name and scripts.</param>
/// <param name="HasHeader">vnet_hdr=: offloads; null: where the kernel knows them.</param>
/// <param name="SendBuffer">sndbuf=: bytes that may wait in the kernel; 0: no limit.</param>
/// <param name="Helper">A program that opens the interface and puts it into <paramref name="Bridge"/>.</param>
public sealed record TapOptions(string Id, string? InterfaceName = null, string Script = TapOptions.DefaultScript,
    string DownScript = TapOptions.DefaultDownScript, int[]? Fds = null, int Queues = 1, bool? HasHeader = null,
    int SendBuffer = 0, string? Helper = null, string Bridge = BridgeHelper.DefaultBridge)
{
    public const string DefaultScript = "/etc/qemu-ifup", DefaultDownScript = "/etc/qemu-ifdown";
    const int MostQueues = 256;                                    // MAX_TAP_QUEUES of the kernel

    public static readonly Property[] Properties =
    [
        Property.Text("ifname", help: "the interface; the kernel numbers one by default"),
        Property.Text("script", DefaultScript, "runs when the interface is there; no for none"),
        Property.Text("downscript", DefaultDownScript, "runs before it goes; no for none"),
        Property.Text("fd", help: "an open tap descriptor: a number, or the name that getfd gave it"),
        Property.Text("fds", help: "several, one a queue: 3:4:5"),
        Property.Number("queues", 1, 1, MostQueues, "for as many processors of the guest"),
        Property.OnOffAuto("vnet_hdr", "checksums and segmentation are left to the kernel"),
        Property.Size("sndbuf", 0, "bytes that may wait in the kernel, 0 for no limit"),
        Property.Text("br", help: "a bridge that a helper puts the interface into"),
        Property.Text("helper", help: $"the helper (default: {BridgeHelper.DefaultPath})"),
        Property.Bool("vhost", false, "frames pass the kernel alone, where it can"),
        Property.Bool("vhostforce", false), Property.Text("vhostfd"), Property.Text("vhostfds"),
        Property.Missing("poll-us", "0"),
    ];

    /// <param name="descriptors">What fd= and fds= name.</param>
    public static TapOptions From(Properties values, Descriptors descriptors)
    {
        int[]? fds = FdsIn(values, descriptors);
        bool hasHelper = values.Has("br") || values.Has("helper");
        int queues = (int)values.Number("queues");
        if (fds != null || hasHelper)
        {
            string what = fds == null ? values.Has("br") ? "br" : "helper" : values.Has("fds") ? "fds" : "fd";
            foreach (var (name, isGiven) in new[] { ("ifname", values.Has("ifname")),
                ("script", values.Text("script") != DefaultScript),
                ("downscript", values.Text("downscript") != DefaultDownScript),
                ("vnet_hdr", values.OnOffAuto("vnet_hdr") != null), ("queues", queues > 1),
                ("br", fds != null && values.Has("br")), ("helper", fds != null && values.Has("helper")) })
                if (isGiven) throw values.Error($"{name}= and {what}= exclude each other: with {what}= the "
                    + "interface is there already; remove one of them");
        }
        ulong sendBuffer = values.Size("sndbuf");
        if (sendBuffer > int.MaxValue) throw values.Error($"sndbuf={sendBuffer} is more than {int.MaxValue}");
        return new TapOptions(values.Required("id"), values.Text("ifname"), values.Required("script"),
            values.Required("downscript"), fds, fds?.Length ?? queues, values.OnOffAuto("vnet_hdr"), (int)sendBuffer,
            hasHelper ? values.Text("helper") ?? BridgeHelper.DefaultPath : null,
            values.Text("br") ?? BridgeHelper.DefaultBridge);
    }

    static int[]? FdsIn(Properties values, Descriptors descriptors)
    {
        if (values.Text("fd") is { } one)
            return !values.Has("fds") ? [descriptors.Take(one, values.Owner)]
                : throw values.Error("fd= and fds= exclude each other; give fds= alone");
        if (values.Text("fds") is not { } text) return null;
        string[] parts = text.Split(':');
        return parts.Length <= MostQueues && !parts.Contains("")
            ? [.. parts.Select(part => descriptors.Take(part, values.Owner))]
            : throw values.Error($"fds={text}: give up to {MostQueues} open descriptors, such as 3:4:5");
    }
}
