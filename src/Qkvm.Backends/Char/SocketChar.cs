using System.Net.Sockets;
using Qkvm.Backends.Objects;
using Qkvm.Backends.Vhost;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>A TCP or UNIX socket, server or client, plain, TLS, telnet or websocket. A server takes one client at a
/// time.</summary>
public sealed class SocketChar : StreamChar, IVhostUserSocket, IDisposable
{
    public static readonly CharModel Model = new("socket",
        [
            Property.Text("path", help: "of a UNIX socket"), Property.Text("host", ""),
            Property.Automatic("port", max: ushort.MaxValue),
            Property.Automatic("to", max: ushort.MaxValue, help: "the last port to try"),
            Property.Automatic("fd", max: int.MaxValue, help: "an inherited descriptor"),
            Property.Bool("server", false),
            Property.OnOffAuto("wait", "a server waits for its first client; on by default"),
            Property.Bool("telnet", false),
            Property.OnOffAuto("ipv4"), Property.OnOffAuto("ipv6"), Property.OnOffAuto("delay"),
            Property.OnOffAuto("nodelay"),
            Property.Number("reconnect", 0, max: int.MaxValue / 1000,
                help: "seconds until a client tries again, 0 for never"),
            Property.Number("reconnect-ms", 0, max: int.MaxValue, help: "the same in milliseconds"),
            Property.Bool("websocket", false, "of a server: bytes in binary frames"),
            Property.Bool("abstract", false, "path= is a name without a file"),
            Property.Bool("tight", true, "and ends where it ends"),
            Property.Text("tls-creds", help: "the id of an object with certificates"),
            Property.Missing("tls-authz"), Property.Missing("tn3270", "off"),
        ],
        static (properties, host) =>
        {
            SocketOptions options = SocketOptions.Of(properties);
            TlsCredentials? credentials = Credentials(properties, host);
            Action? release = options.TlsCredentials is { } id ? () => host.Backends.ReleaseObject(id) : null;
            try
            {
                return new SocketChar(properties.Required("id"), options, host.Loop, properties.Owner, credentials)
                    { _released = release, Warn = host.Warn };
            }
            catch
            {
                release?.Invoke();
                throw;
            }
        })
    {
        Description = "a TCP or UNIX socket",
    };

    static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);

    readonly SocketOptions _options;
    readonly TimeSpan _patience;
    readonly Telnet _telnet = new();
    readonly Listener? _listener;
    readonly Timer? _handshake;
    readonly TlsCredentials? _credentials;
    Connector? _connector;
    StreamSocket? _peer;
    TlsRelay? _relay;
    Action<StreamSocket>? _taker;
    bool _hasComplained, _isDisposed;
    Action? _released;                                             // the credentials are others' to remove

    /// <param name="credentials">Of TLS; null: connections are plain.</param>
    /// <param name="patience">How long a client may take over its handshake, while others wait; 10 seconds where
    /// nothing is said.</param>
    public SocketChar(string id, SocketOptions options, EventLoop loop, string owner,
        TlsCredentials? credentials = null, TimeSpan? patience = null) : base(id, loop)
    {
        (_options, _credentials, _patience) = (options, credentials, patience ?? s_patience);
        if (options.WebSocket) _handshake = new Timer(_ => Loop.Post(() => { if (IsHandshaking) HangUp(); }));
        string what = options.Server ? "listen on" : "connect to";
        try
        {
            if (options.Server) _listener = Listen();
            else if (options.Reconnect == default) Adopt(Connector.Connect(options.Address));
            else
            {
                _connector = NewConnector();
                _connector.Start();
            }
        }
        catch (HostException e)
        {
            string hint = e.Errno == Libc.EAddrInUse ? "; another program listens there: choose another port" : "";
            throw new ConfigurationException($"{owner}: {e.Message}{hint}", e);
        }
        catch (SocketException e) { throw new ConfigurationException($"{owner}: cannot {what} {options.Address}: " +
            $"{e.Message}", e); }
    }

    public override string Description
    {
        get
        {
            string server = _options.Server ? ",server=on" : "",
                kind = _options.Telnet ? "telnet" : _options.WebSocket ? "websocket"
                    : _credentials != null ? "tls" : "tcp";
            if (_peer is { LocalName: { Family: not "unix" } local } peer)
                return $"{kind}:{local}{server} <-> {peer.PeerName}";
            string state = _peer == null ? "disconnected:" : "";
            if (_options.Fd >= 0) return _peer is { LocalName.Service: { Length: > 0 } path } ? $"unix:{path}{server}"
                : $"{state}{_options.Address}{server}";
            if (_options.Path == null)
                return $"{state}{kind}:{(object?)Names.FirstOrDefault() ?? _options.Address}{server}";
            string name = _options.IsAbstract ? $",abstract=on{(_options.IsTight ? ",tight=on" : "")}" : "";
            return $"{state}unix:{_options.Path}{name}{server}";
        }
    }

    /// <summary>Where a server listens.</summary>
    IReadOnlyList<SocketName> Names => _listener?.Names ?? [];

    public override string? ExposedAt => Names.FirstOrDefault(name => IpAddress.TryParse(name.Host, out IpAddress at)
        && !at.IsLoopback)?.ToString();

    public override int Write(ReadOnlySpan<byte> data)
    {
        const byte Iac = 255;
        if (!_options.Telnet || !data.Contains(Iac)) return base.Write(data);
        for (int i = 0; i < data.Length; i++)
        {
            ReadOnlySpan<byte> piece = data[i] == Iac ? [Iac, Iac] : data.Slice(i, 1);
            if (base.Write(piece) < piece.Length) return i;
        }
        return data.Length;
    }

    protected override int Filter(Span<byte> data)
    {
        if (!_options.Telnet) return data.Length;
        int kept = _telnet.Filter(data, out int breaks);
        if (_telnet.Answers.Count > 0) base.Write(_telnet.Answers.ToArray()); // behind what waits already
        for (int i = 0; i < breaks; i++) Frontend?.Event(CharEvent.Break);
        return kept;
    }

    protected override void OnHangUp()
    {
        ForgetPeer();
        _listener?.Start();
        _connector?.Lost();
    }

    /// <summary>From now on connections are somebody's own, who says by <see cref="GiveBack"/> when one has ended.
    /// Waits for the first: before the machine runs.</summary>
    public void Lend(Action<StreamSocket> taker)
    {
        _taker = taker;
        StreamSocket? peer = Release() as StreamSocket;
        if (peer == null)
        {
            SayWaiting();
            _connector?.Dispose();                                 // it would need the main loop
            _connector = null;
            peer = _listener?.WaitForClient() ?? ConnectPatiently();
            if (_options.Reconnect != default) _connector = NewConnector();
        }
        Adopt(peer);
    }

    /// <summary>The bytes go in frames of a protocol of their own: telnet, websocket.</summary>
    public bool IsFramed => _options.Telnet || _options.WebSocket || _credentials != null;

    /// <summary>Whose connections are somebody's own.</summary>
    public bool IsLent => _taker != null;

    /// <summary>A connection that was lent has ended: the next may come. Main loop, under the machine lock.</summary>
    public void GiveBack() => OnHangUp();

    /// <summary>Connections are nobody's own any more. Under the machine lock.</summary>
    public void Return()
    {
        if (_isDisposed) return;
        _taker = null;
        GiveBack();
    }

    /// <summary>Prints a line for the user.</summary>
    public Action<string> Warn { private get; init; } = static line => Console.Error.WriteLine($"qkvm: {line}");

    IVhostUser IVhostUserSocket.Serve(VhostUserNeeds needs) => new VhostUserLink(this, Loop, needs, Warn);

    /// <summary>Under the machine lock.</summary>
    public void Dispose()
    {
        _isDisposed = true;
        Detach();
        _relay?.Dispose();                                         // its last words reach the other end
        ForgetPeer();
        _released?.Invoke();
        _released = null;
        _handshake?.Dispose();
        _connector?.Dispose();
        _listener?.Dispose();
    }

    Connector NewConnector() => new(_options.Address, Loop, _options.Reconnect, Adopt, static _ => { });

    StreamSocket ConnectPatiently()
    {
        while (true)
        {
            try { return Connector.Connect(_options.Address, TimeSpan.FromSeconds(1)); }
            catch (HostException) { Thread.Sleep(_options.Reconnect); }
        }
    }

    void SayWaiting()
    {
        string hint = _taker == null ? " (wait=off starts without)" : "";
        string how = _options.Server ? "waiting for a connection on" : "waiting to connect to";
        Console.Error.WriteLine($"qkvm: -chardev {Id}: {how} {_options.Address}{hint}");
    }

    Listener Listen()
    {
        var listener = new Listener(_options.Address, Loop, Adopt, backlog: 1);
        if (!_options.Wait) listener.Start();
        else
        {
            SayWaiting();
            Adopt(listener.WaitForClient());
        }
        return listener;
    }

    void Adopt(StreamSocket peer)
    {
        _listener?.Stop();                                         // one at a time: the next waits in the backlog
        _peer = peer;
        if (_options.Path == null && _options.Fd < 0) peer.SetNoDelay(_options.NoDelay);
        if (_taker != null)
        {
            _taker(peer);
            return;
        }
        _telnet.Reset();
        if (_credentials != null)
        {
            Open(Secured(peer, _credentials), isReady: false);
            return;
        }
        if (_options.WebSocket)
        {
            _handshake!.Change(_patience, Timeout.InfiniteTimeSpan);
            Open(new WebSocketTransport(peer, Ready), isReady: false);
            return;
        }
        if (_options.Telnet) peer.Write(Telnet.Greeting);
        Open(peer);
    }

    /// <summary>The transport of a connection whose handshake goes on.</summary>
    StreamSocket Secured(StreamSocket peer, TlsCredentials credentials)
    {
        // They come on other threads, and by then the connection may be another one.
        _relay = new TlsRelay(peer, credentials, _options is { Path: null, Fd: < 0 } ? _options.Host : null, _patience,
            () => After(peer, Ready),
            why => After(peer, () =>
            {
                // Once: clients may come and fail as often as they like.
                if (!_hasComplained) Console.Error.WriteLine($"qkvm: -chardev {Id}: TLS handshake failed: {why}");
                _hasComplained = true;
                HangUp();
            }));
        return _relay.Plain;
    }

    protected override bool HandshakeReads => _credentials == null;

    void After(StreamSocket peer, Action handshake) => Loop.Post(() =>
    {
        if (!IsHandshaking || _peer != peer) return;
        handshake();
        AcceptInput();
    });

    /// <summary>Under TLS the socket is not the connection's transport, and ends with it here.</summary>
    void ForgetPeer()
    {
        _relay?.End();
        if (_relay != null) _peer?.Dispose();
        (_peer, _relay) = (null, null);
    }

    /// <summary>What tls-creds= names, which must be of our side.</summary>
    static TlsCredentials? Credentials(Properties properties, IBackendHost host)
    {
        if (properties.Text("tls-creds") is not { } id) return null;
        if (properties.Bool("telnet") || properties.Bool("websocket"))
            throw properties.Error("tls-creds= together with telnet=on or websocket=on is not built yet; leave one of "
                + "them out");
        TlsCredentials found = host.Backends.FindObject<TlsCredentials>(id, TlsCredentialsX509.Model.Name,
            properties.Owner);
        if (found.IsServer == properties.Bool("server")) return found;
        host.Backends.ReleaseObject(id);
        throw properties.Error($"Expected TLS credentials for a {(found.IsServer ? "client" : "server")} endpoint");
    }

    protected override void Ready()
    {
        base.Ready();
        if (_options.Telnet) base.Write(Telnet.Greeting);
    }
}
