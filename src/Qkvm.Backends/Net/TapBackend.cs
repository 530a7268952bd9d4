using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Backends.Net;

/// <summary>A host network interface that carries a guest's frames; the kernel checks what guests say about
/// them.</summary>
/// <remarks>Frames stay in the kernel's queue until the card has room; what the kernel does not take at once is
/// dropped, as on a wire.</remarks>
public sealed class TapBackend : NetBackend, IDisposable
{
    public static readonly NetModel Model = new("tap", TapOptions.Properties, Create)
        { Description = "an interface of the host" };

    readonly TapOptions _options;
    readonly string _description;
    readonly TapQueue[] _queues;
    bool _disposed;

    /// <param name="owner">The option, for messages: "-netdev tap,id=net0".</param>
    /// <param name="description">As `info network` shows it; null: by the options.</param>
    public TapBackend(string owner, TapOptions options, string? description = null) : base(options.Id)
    {
        _options = options;
        TapDevice[] taps = TapOpening.Open(owner, options);
        _queues = [.. taps.Select((tap, index) => new TapQueue(tap, index > 0))];
        InterfaceName = taps[0].Name;
        Takes = _queues[0].Known;
        Gives = _queues[0].Known;
        _description = description ?? (options.Fds is { } fds ? $"index=0,type=tap,fd={fds[0]}"
            : options.Helper is { } helper ? $"index=0,type=tap,helper={helper}"
            : $"index=0,type=tap,ifname={InterfaceName},script={options.Script},downscript={options.DownScript}");
        if (!HasScripts || !NetScript.IsGiven(options.Script)) return;
        try
        {
            NetScript.Run(options.Script, InterfaceName);
        }
        catch (NetScriptException e)
        {
            foreach (TapQueue queue in _queues) queue.Close();
            throw new ConfigurationException($"{owner}: {e.Message}; give script=no for none", e);
        }
    }

    public string InterfaceName { get; }
    public override string Description => _description;
    public override NetOffloads Takes { get; }
    public override NetOffloads Gives { get; }
    public override int MaxQueues => _queues.Length;

    /// <summary>Frames that the kernel did not take.</summary>
    public long Dropped => _queues.Sum(queue => queue.Dropped);

    bool HasScripts => _options.Fds == null && _options.Helper == null;

    public override INetQueue Open(int index, INetPort port, IoLoop loop) => new TapEnd(_queues[index], port, loop);

    /// <summary>Runs the down script and gives the interface back; says on stderr what failed.</summary>
    public void Dispose()
    {
        if (_disposed) return;
        _disposed = true;
        if (HasScripts && NetScript.IsGiven(_options.DownScript))
        {
            try { NetScript.Run(_options.DownScript, InterfaceName); }
            catch (NetScriptException e) { Console.Error.WriteLine($"{Id}: {e.Message}"); }
        }
        foreach (TapQueue queue in _queues) queue.Close();
    }

    static TapBackend Create(Properties properties, IBackendHost host)
    {
        WarnOfVhost(properties, host);
        return new TapBackend(properties.Owner, TapOptions.From(properties, host.Descriptors));
    }

    static void WarnOfVhost(Properties properties, IBackendHost host)
    {
        const string Device = "/dev/vhost-net";
        bool isForced = properties.Bool("vhostforce");
        if (!isForced && !properties.Bool("vhost") && !properties.Has("vhostfd") && !properties.Has("vhostfds"))
            return;
        int fd = Libc.open(Device, Libc.ORdWr | Libc.OCloexec, 0);
        string why = fd < 0 ? $"tap: open vhost char device failed: {Libc.Message(Libc.Errno)}"
            : $"{properties.Owner}: vhost is not built yet";
        if (fd >= 0) Libc.close(fd);
        if (isForced) throw properties.Error($"{why}; leave vhostforce=on out for the normal path");
        host.Warn($"{why}; frames take the normal path");
    }
}
