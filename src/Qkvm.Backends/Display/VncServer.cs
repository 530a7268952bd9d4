using System.Diagnostics;
using System.Globalization;
using Qkvm.Backends.Display.Encodings;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>Shows a screen to viewers of the remote framebuffer protocol. Spec: RFC 6143 and the protocol's community
/// version.</summary>
/// <remarks>Main loop, under the machine lock. It paints only while some viewer waits for an update and can take one:
/// at most 60 times a second, less often while nothing changes. Deviations: no sound, and the clipboard is the
/// viewers', not the guest's.</remarks>
public sealed class VncServer : IRemoteDisplay, IDisposable
{
    public static readonly DisplayModel Model = new("vnc", VncOptions.Declared, static (properties, parts) =>
        Create(properties, parts));

    const int MaxClients = 128;
    const int FastMilliseconds = 16, SlowMilliseconds = 132;

    readonly VncOptions _options;
    readonly IDisplaySource? _source;
    readonly EventLoop _loop;
    readonly Action<MachineEvent> _raise;
    readonly VncPorts _ports;
    readonly List<VncClient> _clients = [];
    readonly Timer _timer;
    readonly Action _tick;
    FrameBuffer _painted = new();
    bool[] _changed = [];                                          // by lines
    readonly List<VncClient> _copiers = [];                        // those that are told what moved
    bool _isScheduled;
    long _lastPaint = -FastMilliseconds;
    int _interval = FastMilliseconds;

    /// <param name="handshakeLimit">How long a viewer may take to introduce itself.</param>
    VncServer(VncOptions options, VncSecurity security, DisplayParts parts, TimeSpan handshakeLimit)
    {
        (_options, Security, _source, _loop, _raise) = (options, security, parts.Source, parts.Loop, parts.Raise);
        (Input, Power, Name, HandshakeLimit) = (parts.Input, parts.Power, parts.Title, handshakeLimit);
        _tick = Tick;
        _timer = new Timer(_ => _loop.Post(_tick));
        _ports = new VncPorts(options, _loop, security, handshakeLimit, Accept);
    }

    /// <exception cref="ConfigurationException">A bad address or option, or a busy port.</exception>
    public static VncServer Create(Properties properties, DisplayParts parts, TimeSpan? handshakeLimit = null)
    {
        VncOptions options = VncOptions.Parse(properties);
        VncSecurity security = VncSecurity.Of(properties, parts.Backends);
        try
        {
            var server = new VncServer(options, security, parts, handshakeLimit ?? TimeSpan.FromSeconds(10));
            if (options.IsRange) parts.Print($"VNC server running on {server.LocalEndPoint}"); // which one it became
            return server;
        }
        catch
        {
            security.Dispose();
            throw;
        }
    }

    /// <summary>The picture that viewers see.</summary>
    internal FrameBuffer Picture { get; private set; } = new();

    /// <summary>The guest's pointer where viewers are to draw it; null: there is nothing to tell of it.</summary>
    internal CursorShape? Pointer { get; private set; }
    internal InputRouter Input { get; }
    internal VncSecurity Security { get; }

    internal void Key(KeyCode key, bool down) => Input.Key(key, down, _options.KeyDelay);

    /// <summary>lock-key-sync: the guest's locks follow the viewers'.</summary>
    internal bool SyncsLocks => _options.SyncsLocks;
    internal bool IsLossy => _options.IsLossy;
    internal bool HasPower => _options.HasPower;
    internal PowerButtons Power { get; }
    internal string Name { get; }
    internal TimeSpan HandshakeLimit { get; }

    /// <summary>Where it listens first: "::1:5900" or a path.</summary>
    public string LocalEndPoint => _ports.Names[0] is { Family: not "unix" } name ? $"{name.Host}:{name.Service}"
        : $"{_ports.Names[0]}";

    /// <summary>Where it listens first, as viewers count: port 5900 is 0.</summary>
    internal int Display => int.Parse(_ports.Names[0].Service, CultureInfo.InvariantCulture) - VncOptions.FirstPort;

    /// <summary>For browsers.</summary>
    internal int WebPort => int.Parse(_ports.WebNames[0].Service, CultureInfo.InvariantCulture);

    public RemoteDisplayInfo Query() => new(_options.Id, Security.Auth,
        [.. _ports.Names.Select(name => Describe(name)),
            .. _ports.WebNames.Select(name => Describe(name, isWeb: true))],
        [.. _clients.Select(client => Describe(client.PeerName, client.IsWeb))]);

    public void AddClient(int fd, bool asksPassword)
    {
        if (StreamSocket.Listens(fd) != false)
            throw new ConfigurationException("parameter @fdname must name a socket that is connected");
        Accept(new VncPeer(new StreamSocket(fd)), asksPassword ? Security : Security.Open);
    }

    public bool SetPassword(string? password) => Security.SetPassword(password);

    public bool ExpirePassword(DateTimeOffset? when) => Security.Expire(when);

    public void Dispose()
    {
        _timer.Dispose();
        foreach (VncClient client in _clients.ToArray()) client.Close();
        _ports.Dispose();
        Security.Dispose();
    }

    // For clients

    /// <summary>A viewer introduced itself: makes room for it, or returns false where it may not watch.</summary>
    internal bool Admit(VncClient newcomer, bool shared)
    {
        switch (_options.Sharing)
        {
            case VncSharing.ForceShared when !shared: return false;
            case VncSharing.AllowExclusive when !shared:
                foreach (VncClient other in _clients.ToArray())
                    if (other != newcomer) other.Close();
                break;
            case VncSharing.AllowExclusive when _clients.Exists(c => c.IsExclusive): return false;
        }
        if (Picture.Width == 0 || Now - _lastPaint >= FastMilliseconds) Paint();
        Tell(newcomer, static (server, client) => new VncInitializedEvent(server, client));
        return true;
    }

    internal void Leave(VncClient client)
    {
        if (_clients.Remove(client)) Tell(client, static (server, peer) => new VncDisconnectedEvent(server, peer));
    }

    /// <summary>What a viewer has cut last; null: nobody has.</summary>
    internal string? CutText { get; private set; }

    /// <summary>All others may paste it.</summary>
    internal void Cut(VncClient from, string text)
    {
        CutText = text;
        foreach (VncClient client in _clients.ToArray())
            if (client != from) client.TellOfCut();
    }

    /// <summary>A viewer wants another resolution; false where the guest's screen cannot change.</summary>
    internal bool RequestSize(int width, int height) => _source?.RequestSize(width, height) ?? false;

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
        Pointer = _source?.Cursor;
        // Viewers draw the pointer if all can: it follows their hands, and no pixels are sent when it moves.
        bool isApart = Pointer != null && !_clients.Exists(client => !client.DrawsPointer);
        if (Pointer != null && !isApart) Pointer = CursorShape.Hidden;
        if (isApart) _source!.PaintBare(_painted);
        else if (_source != null) _source.Paint(_painted);
        else _painted.Resize(720, 400);
        bool resized = _painted.Width != Picture.Width || _painted.Height != Picture.Height;
        if (resized)
        {
            Picture.Resize(_painted.Width, _painted.Height);
            foreach (VncClient client in _clients) client.OnResized();
        }
        bool changed = FindChanges();
        (Picture, _painted) = (_painted, Picture);                 // all of it is painted each time
        return changed || resized;
    }

    /// <summary>Marks what differs between the picture that was painted and the one that viewers see.</summary>
    bool FindChanges()
    {
        int height = Picture.Height;
        if (_changed.Length < height) _changed = new bool[height];
        Span<bool> changed = _changed.AsSpan(0, height);
        for (int y = 0; y < height; y++) changed[y] = !_painted.Row(y).SequenceEqual(Picture.Row(y));
        if (!changed.Contains(true)) return false;
        if (_clients.Exists(client => client.CanCopy)
            && ScrollFinder.TryFind(_painted, Picture, changed, out int top, out int lines, out int distance))
        {
            _copiers.Clear();
            foreach (VncClient client in _clients)
                if (client.CanCopy) _copiers.Add(client);
            foreach (VncClient client in _copiers)
                client.Copy(new ScreenArea(0, top, Picture.Width, lines), distance);
            MarkTiles(changed, _clients.Where(client => !_copiers.Contains(client)));
            changed.Slice(top, lines).Clear();
            MarkTiles(changed, _copiers);
        }
        else MarkTiles(changed, _clients);
        return true;
    }

    /// <summary>In lines that changed.</summary>
    void MarkTiles(ReadOnlySpan<bool> changed, IEnumerable<VncClient> viewers)
    {
        VncClient[] clients = [.. viewers];
        if (clients.Length == 0) return;
        for (int y = 0; y < changed.Length; y++)
        {
            if (!changed[y]) continue;
            Span<uint> now = _painted.Row(y), before = Picture.Row(y);
            for (int x = 0; x < now.Length; x += TileMap.TileSize)
            {
                int width = Math.Min(TileMap.TileSize, now.Length - x);
                if (now.Slice(x, width).SequenceEqual(before.Slice(x, width))) continue;
                foreach (VncClient client in clients) client.MarkTile(x / TileMap.TileSize, y / TileMap.TileSize);
            }
        }
    }

    void Accept(VncPeer peer) => Accept(peer, peer.IsSecret ? Security.Plain : Security);

    void Accept(VncPeer peer, VncSecurity security)
    {
        if (_clients.Count >= MaxClients) { peer.Transport.Dispose(); return; }
        var client = new VncClient(this, security, peer, _loop);
        _clients.Add(client);
        Tell(client, static (server, newcomer) => new VncConnectedEvent(server, newcomer));
        client.Greet();
    }

    void Tell(VncClient client, Func<EventServer, EventClient, MachineEvent> what)
    {
        SocketName ours = client.LocalName, theirs = client.PeerName;
        _raise(what(new EventServer(ours.Host, ours.Service, ours.Family, client.IsWeb, Security.Auth.FullName),
            new EventClient(theirs.Host, theirs.Service, theirs.Family, client.IsWeb)));
    }

    static EndPointInfo Describe(SocketName name, bool isWeb = false) =>
        new(name.Host, name.Service, name.Family, isWeb);
}
