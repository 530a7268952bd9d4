using System.Diagnostics;
using System.Net.Sockets;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>Shows a screen to viewers of the remote framebuffer protocol. Spec: RFC 6143.</summary>
/// <remarks>Main loop, under the machine lock. It paints only while some viewer waits for an update and can take one:
/// at most 30 times a second, less often while nothing changes. Deviations: no passwords, no encryption, no
/// clipboard.</remarks>
public sealed class VncServer : IRemoteDisplay, IDisposable
{
    public static readonly DisplayModel Model = new("vnc", VncAddress.Declared, static (properties, parts) =>
        Create(properties, parts));

    const int MaxClients = 64;
    const int FastMilliseconds = 33, SlowMilliseconds = 132;

    readonly VncAddress _address;
    readonly IDisplaySource? _source;
    readonly EventLoop _loop;
    readonly Listener _listener;
    readonly List<VncClient> _clients = [];
    readonly Timer _timer;
    readonly Action _tick;
    readonly FrameBuffer _painted = new();
    bool _isScheduled;
    long _lastPaint = -FastMilliseconds;
    int _interval = FastMilliseconds;

    /// <param name="source">Null for a machine without a screen.</param>
    /// <param name="name">The title for viewers' windows.</param>
    /// <param name="handshakeLimit">How long a viewer may take to introduce itself.</param>
    VncServer(VncAddress address, IDisplaySource? source, InputRouter input, EventLoop loop, string name,
        TimeSpan handshakeLimit)
    {
        (_address, _source, Input, _loop, Name, HandshakeLimit) = (address, source, input, loop, name, handshakeLimit);
        _tick = Tick;
        _timer = new Timer(_ => _loop.Post(_tick));
        _listener = Listen();
        _listener.Start();
    }

    /// <exception cref="ConfigurationException">A bad address or option, or a busy port.</exception>
    public static VncServer Create(Properties properties, DisplayParts parts, TimeSpan? handshakeLimit = null)
    {
        VncAddress address = VncAddress.Parse(properties);
        var server = new VncServer(address, parts.Source, parts.Input, parts.Loop, parts.Title, handshakeLimit
            ?? TimeSpan.FromSeconds(10));
        if (address.IsRange) parts.Print($"VNC server running on {server.LocalEndPoint}"); // which one it became
        return server;
    }

    /// <summary>The picture that viewers see.</summary>
    internal FrameBuffer Picture { get; } = new();
    internal InputRouter Input { get; }

    internal void Key(KeyCode key, bool down) => Input.Key(key, down, _address.KeyDelay);

    /// <summary>lock-key-sync: the guest's locks follow the viewers'.</summary>
    internal bool SyncsLocks => _address.SyncsLocks;
    internal string Name { get; }
    internal TimeSpan HandshakeLimit { get; }

    /// <summary>Where it listens first: "::1:5900" or a path.</summary>
    public string LocalEndPoint => _listener.Names[0] is { Family: not "unix" } name ? $"{name.Host}:{name.Service}"
        : $"{_listener.Names[0]}";

    public RemoteDisplayInfo Query() =>
        new(_address.Id, "none", [.. _listener.Names.Select(Describe)],
        [.. _clients.Select(c => Describe(c.PeerName))]);

    public void AddClient(int fd)
    {
        if (StreamSocket.Listens(fd) != false)
            throw new ConfigurationException("parameter @fdname must name a socket that is connected");
        Accept(new StreamSocket(fd));
    }

    public void Dispose()
    {
        _timer.Dispose();
        foreach (VncClient client in _clients.ToArray()) client.Close();
        _listener.Dispose();
    }

    // For clients

    /// <summary>A viewer introduced itself: makes room for it, or returns false where it may not watch.</summary>
    internal bool Admit(VncClient newcomer, bool shared)
    {
        switch (_address.Sharing)
        {
            case VncSharing.ForceShared when !shared: return false;
            case VncSharing.AllowExclusive when !shared:
                foreach (VncClient other in _clients.ToArray())
                    if (other != newcomer) other.Close();
                break;
            case VncSharing.AllowExclusive when _clients.Exists(c => c.IsExclusive): return false;
        }
        if (Picture.Width == 0 || Now - _lastPaint >= FastMilliseconds) Paint();
        return true;
    }

    internal void Leave(VncClient client) => _clients.Remove(client);

    /// <summary>A viewer waits for an update, or did something that soon shows.</summary>
    internal void Schedule(bool soon)
    {
        if (soon) _interval = FastMilliseconds;
        if (_isScheduled && !soon || !_clients.Exists(c => c.CanTakeUpdate)) return;
        _isScheduled = true;
        _timer.Change(Math.Clamp(_lastPaint + _interval - Now, 0, SlowMilliseconds), Timeout.Infinite);
    }

    static long Now => Stopwatch.GetTimestamp() * 1000 / Stopwatch.Frequency;

    void Tick()
    {
        _isScheduled = false;
        if (!_clients.Exists(c => c.CanTakeUpdate)) return;
        _interval = Paint() ? FastMilliseconds : Math.Min(_interval * 2, SlowMilliseconds);
        for (int i = _clients.Count - 1; i >= 0; i--) _clients[i].TryUpdate(); // one that hangs up leaves the list
        Schedule(soon: false);
    }

    /// <summary>Brings <see cref="Picture"/> up to date and marks the tiles that changed; returns whether any
    /// did.</summary>
    bool Paint()
    {
        _lastPaint = Now;
        if (_source != null) _source.Paint(_painted);
        else _painted.Resize(720, 400);
        bool resized = _painted.Width != Picture.Width || _painted.Height != Picture.Height;
        if (resized)
        {
            Picture.Resize(_painted.Width, _painted.Height);
            foreach (VncClient client in _clients) client.OnResized();
        }
        bool changed = resized;
        for (int y = 0; y < Picture.Height; y++)
        {
            Span<uint> now = _painted.Row(y), before = Picture.Row(y);
            if (now.SequenceEqual(before)) continue;
            changed = true;
            for (int x = 0; x < now.Length; x += Hextile.TileSize)
            {
                int width = Math.Min(Hextile.TileSize, now.Length - x);
                if (now.Slice(x, width).SequenceEqual(before.Slice(x, width))) continue;
                foreach (VncClient client in _clients) client.MarkTile(x / Hextile.TileSize, y / Hextile.TileSize);
            }
            now.CopyTo(before);
        }
        return changed;
    }

    void Accept(StreamSocket peer)
    {
        if (_clients.Count >= MaxClients) { peer.Dispose(); return; }
        if (_address.Path == null) peer.SetNoDelay(true);
        var client = new VncClient(this, peer, _loop);
        _clients.Add(client);
        client.Greet();
    }

    Listener Listen()
    {
        try { return new Listener(_address.Address, _loop, Accept); }
        catch (HostException e) when (e.Errno == Libc.EAddrInUse && _address.Path == null)
        {
            int first = VncAddress.FirstPort + _address.Display, last = VncAddress.FirstPort + _address.Last;
            string ports = first == last ? $"port {first} is" : $"ports {first} to {last} are all";
            throw new ConfigurationException($"{_address.Owner}: {ports} in use by another program; choose another " +
                "display, "
                + $"or let qkvm find a free one: -vnc {_address.Host}:{_address.Display},to=99", e);
        }
        catch (Exception e) when (e is HostException or SocketException or IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"{_address.Owner}: {e.Message}", e);
        }
    }

    static EndPointInfo Describe(SocketName name) => new(name.Host, name.Service, name.Family);
}
