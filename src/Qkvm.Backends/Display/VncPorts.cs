using System.Net.Sockets;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>A viewer's connection, before anything was said.</summary>
/// <param name="IsSecret">TLS lies below already.</param>
sealed record VncPeer(ITransport Transport, SocketName PeerName, SocketName LocalName, bool IsWeb = false,
    bool IsSecret = false)
{
    public VncPeer(StreamSocket socket) : this(socket, socket.PeerName, socket.LocalName) { }
}

/// <summary>Where viewers come from: a port for them, one for browsers, or a viewer that listens itself.</summary>
/// <remarks>Main loop, under the machine lock.</remarks>
sealed class VncPorts : IDisposable
{
    const int MaxDoors = 128;

    readonly VncOptions _options;
    readonly EventLoop _loop;
    readonly TlsCredentials? _credentials;
    readonly TimeSpan _patience;
    readonly Action<VncPeer> _accept;
    readonly bool _asksPassword;
    readonly Listener? _listener, _webListener;
    readonly HashSet<HttpDoor> _doors = [];

    /// <param name="security">Its TLS is browsers', too.</param>
    /// <param name="patience">For their handshake.</param>
    /// <exception cref="ConfigurationException">Nothing can listen there, or no viewer does.</exception>
    public VncPorts(VncOptions options, EventLoop loop, VncSecurity security, TimeSpan patience,
        Action<VncPeer> accept)
    {
        (_options, _loop, _patience, _accept) = (options, loop, patience, accept);
        (_credentials, _asksPassword) = (security.Credentials, security.HasPassword);
        try
        {
            if (options.IsReverse)
            {
                StreamSocket viewer = Connector.Connect(options.Address);
                Names = [viewer.LocalName];
                loop.Post(() => Accept(viewer));                   // once the machine is there
                return;
            }
            _listener = new Listener(options.Address, loop, Accept);
            Names = _listener.Names;
            _listener.Start();
            if (options.WebAddress is not { } web) return;
            _webListener = new Listener(web, loop, AcceptWeb);
            _webListener.Start();
        }
        catch (Exception e) when (e is HostException or SocketException or IOException or UnauthorizedAccessException)
        {
            bool isWeb = _listener != null;
            Dispose();
            throw new ConfigurationException($"{options.Owner}: {Explain(e, isWeb)}", e);
        }
    }

    public IReadOnlyList<SocketName> Names { get; } = [];
    public IReadOnlyList<SocketName> WebNames => _webListener?.Names ?? [];

    public void Dispose()
    {
        _listener?.Dispose();
        _webListener?.Dispose();
        foreach (HttpDoor door in _doors.ToArray()) door.Dispose();
    }

    void Accept(StreamSocket peer)
    {
        if (_options.Path == null) peer.SetNoDelay(true);
        _accept(new VncPeer(peer));
    }

    void AcceptWeb(StreamSocket peer)
    {
        if (_doors.Count >= MaxDoors) { peer.Dispose(); return; }
        peer.SetNoDelay(true);
        (SocketName theirs, SocketName ours) = (peer.PeerName, peer.LocalName);
        ITransport below = _credentials == null ? peer
            : new TlsTransport(peer, _credentials, _patience, static () => { }, static _ => { });
        _doors.Add(new HttpDoor(below, _loop, _patience, WebPage.Find, Admits,
            opened => _accept(new VncPeer(opened, theirs, ours, IsWeb: true, IsSecret: true)),
            door => _doors.Remove(door)));
    }

    /// <summary>A page of another server may not watch through the browser of somebody who may, unless there is a
    /// password that it would have to know. RFC 6455, section 10.2.</summary>
    bool Admits(HttpRequest request) => _asksPassword || request.Field("Origin") is not { } origin
        || Uri.TryCreate(origin, UriKind.Absolute, out Uri? from) && from.Authority == request.Field("Host");

    string Explain(Exception e, bool isWeb)
    {
        if (_options.IsReverse)
            return $"{e.Message}; start a viewer that listens there first, such as vncviewer -listen";
        if (isWeb) return $"websocket={_options.WebPort}: {e.Message}";
        if (e is not HostException { Errno: Libc.EAddrInUse } || _options.Path != null) return e.Message;
        int first = VncOptions.FirstPort + _options.Display, last = VncOptions.FirstPort + _options.Last;
        string ports = first == last ? $"port {first} is" : $"ports {first} to {last} are all";
        return $"{ports} in use by another program; choose another display, or let qkvm find a free one: "
            + $"-vnc {_options.Host}:{_options.Display},to=99";
    }
}
