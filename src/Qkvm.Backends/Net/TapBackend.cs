using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Backends.Net;

/// <summary>-netdev tap as users type it.</summary>
/// <param name="InterfaceName">ifname=; null lets the kernel number one.</param>
/// <param name="Script">Runs when the interface is there; "no" or empty for none.</param>
/// <param name="Fd">fd=: an open tap descriptor, which excludes name and scripts.</param>
public sealed record TapOptions(string Id, string? InterfaceName = null, string Script = TapOptions.DefaultScript,
    string DownScript = TapOptions.DefaultDownScript, int? Fd = null)
{
    public const string DefaultScript = "/etc/qemu-ifup", DefaultDownScript = "/etc/qemu-ifdown";
}

/// <summary>A host network interface that carries a guest's frames.</summary>
/// <remarks>Frames stay in the kernel's queue until the card has room; what the kernel does not take at once is
/// dropped, as on a wire.</remarks>
public sealed class TapBackend : INetBackend, IDisposable
{
    public static readonly NetModel Model = new("tap",
        [
            Property.Text("ifname", help: "the interface; the kernel numbers one by default"),
            Property.Text("script", TapOptions.DefaultScript, "runs when the interface is there; no for none"),
            Property.Text("downscript", TapOptions.DefaultDownScript, "runs before it goes; no for none"),
            Property.Automatic("fd", max: int.MaxValue, help: "an open tap descriptor"),
            Property.Missing("vhost", "off"), Property.Missing("queues", "1"), Property.Missing("br"),
            Property.Missing("helper"),
            Property.Missing("fds"), Property.Missing("vhostfd"), Property.Missing("vhostforce", "off"),
            Property.Missing("sndbuf"), Property.Missing("vnet_hdr", "off"),
        ],
        Create) { Description = "an interface of the host" };

    static TapBackend Create(Properties properties, IBackendHost host)
    {
        return new TapBackend(properties.Owner, new TapOptions(properties.Required("id"), properties.Text("ifname"),
            properties.Required("script"),
            properties.Required("downscript"), (int?)properties.NumberOrAuto("fd")), host.Loop);
    }

    const int LargestFrame = 65536;
    const int ReceiveBurst = 64;                                   // frames at once, before others get their turn

    readonly TapOptions _options;
    readonly EventLoop _loop;
    readonly TapDevice _tap;
    readonly byte[] _frame = new byte[LargestFrame];
    readonly Action<FdEvents> _onReadable;
    INetFrontend? _frontend;
    bool _watching;
    bool _gone;                                                    // the interface was deleted under us
    bool _disposed;

    /// <param name="owner">The option, for messages: "-netdev tap,id=net0".</param>
    public TapBackend(string owner, TapOptions options, EventLoop loop)
    {
        _options = options;
        _loop = loop;
        _onReadable = OnReadable;
        _tap = options.Fd is { } fd ? TapOpening.Inherit(owner, fd) : TapOpening.Open(owner, options.InterfaceName);
        if (options.Fd != null || !NetScript.IsGiven(options.Script)) return;
        try
        {
            NetScript.Run(options.Script, _tap.Name);
        }
        catch (NetScriptException e)
        {
            _tap.Dispose();
            throw new ConfigurationException($"{owner}: {e.Message}; give script=no for none", e);
        }
    }

    public string Id => _options.Id;
    public string InterfaceName => _tap.Name;

    public string Description => _options.Fd is { } fd ? $"index=0,type=tap,fd={fd}"
        : $"index=0,type=tap,ifname={_tap.Name},script={_options.Script},downscript={_options.DownScript}";

    /// <summary>Frames that the kernel did not take.</summary>
    public long Dropped { get; private set; }

    public void Connect(INetFrontend? frontend)
    {
        _frontend = frontend;
        Watch(frontend != null);
    }

    public void Send(ReadOnlySpan<byte> frame)
    {
        if (_disposed || !_tap.Write(frame)) Dropped++;
    }

    public void AcceptInput() => Watch(_frontend != null);

    /// <summary>Runs the down script and gives the interface back; says on stderr what failed.</summary>
    public void Dispose()
    {
        if (_disposed) return;
        Watch(false);
        _disposed = true;
        if (_options.Fd == null && NetScript.IsGiven(_options.DownScript))
        {
            try { NetScript.Run(_options.DownScript, _tap.Name); }
            catch (NetScriptException e) { Console.Error.WriteLine($"{Id}: {e.Message}"); }
        }
        _tap.Dispose();
    }

    void OnReadable(FdEvents events)
    {
        if ((events & FdEvents.Readable) != 0) Receive();
        if ((events & (FdEvents.Error | FdEvents.HangUp)) == 0) return;
        Watch(false);
        _gone = true;
    }

    void Receive()
    {
        for (int budget = ReceiveBurst; budget > 0; budget--)
        {
            if (_frontend is not { CanReceive: true } frontend) { Watch(false); return; }
            int length = _tap.Read(_frame);
            if (length == 0) return;
            frontend.Receive(_frame.AsSpan(0, length));
        }
    }

    void Watch(bool on)
    {
        if (_watching == on || _gone || _disposed) return;
        _watching = on;
        if (on) _loop.Watch(_tap.Fd, FdEvents.Readable, _onReadable);
        else _loop.Unwatch(_tap.Fd);
    }
}
