using System.Net;
using System.Net.Sockets;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Backends.Char;

/// <summary>Where a socket backend listens or connects: -chardev socket's options.</summary>
/// <param name="Path">A UNIX socket's path; otherwise host and port.</param>
/// <param name="Fd">An inherited descriptor, or -1.</param>
public sealed record SocketOptions(string? Path, string Host, int Port, bool Server, bool Wait, bool Telnet,
    bool? Ipv4 = null, bool? Ipv6 = null, bool NoDelay = true, int ReconnectSeconds = 0, int Fd = -1)
{
    public static SocketOptions Of(Properties properties)
    {
        string? path = properties.Text("path");
        int? fd = (int?)properties.NumberOrAuto("fd"), port = (int?)properties.NumberOrAuto("port");
        if (path == null && fd == null && port == null) throw properties.Error("needs path= or port=");
        bool server = properties.Bool("server");
        return new SocketOptions(path, properties.Required("host"), port ?? 0, server, server
            && properties.OnOffAuto("wait") != false,
            properties.Bool("telnet"), properties.OnOffAuto("ipv4"), properties.OnOffAuto("ipv6"),
            NoDelay: !(properties.OnOffAuto("delay") ?? properties.OnOffAuto("nodelay") == false),
            (int)properties.Number("reconnect"), fd ?? -1);
    }
}

/// <summary>A TCP or UNIX socket, server or client, plain or telnet. A server takes one client at a time.</summary>
public sealed class SocketChar : StreamChar, IDisposable
{
    public static readonly CharModel Model = new("socket",
        [
            Property.Text("path", help: "of a UNIX socket"), Property.Text("host", ""),
            Property.Automatic("port", max: ushort.MaxValue),
            Property.Automatic("fd", max: int.MaxValue, help: "an inherited descriptor"),
            Property.Bool("server", false),
            Property.OnOffAuto("wait", "a server waits for its first client; on by default"),
            Property.Bool("telnet", false),
            Property.OnOffAuto("ipv4"), Property.OnOffAuto("ipv6"), Property.OnOffAuto("delay"),
            Property.OnOffAuto("nodelay"),
            Property.Number("reconnect", 0, max: int.MaxValue / 1000,
                help: "seconds until a client tries again, 0 for never"),
            Property.Missing("websocket", "off"), Property.Missing("to", remedy: "give one port"),
            Property.Missing("tls-creds"),
        ],
        static (properties, host) => new SocketChar(properties.Required("id"), SocketOptions.Of(properties), host.Loop,
            properties.Owner))
    {
        Description = "a TCP or UNIX socket",
    };

    readonly SocketOptions _options;
    readonly string _owner;
    readonly Telnet _telnet = new();
    readonly Timer _reconnect;
    Socket? _listener, _peer;

    public SocketChar(string id, SocketOptions options, EventLoop loop, string owner) : base(id, loop)
    {
        _options = options;
        _owner = owner;
        _reconnect = new Timer(_ => loop.Post(TryReconnect));
        if (options.Server) Listen();
        else if (!TryConnect(out string why) && options.ReconnectSeconds == 0)
            throw new ConfigurationException($"{owner}: cannot connect to {Address}: {why}");
    }

    public override string Description => $"{(_peer == null && _options.Server ? "disconnected:" : "")}{(_options.Telnet ? "telnet" : _options.Path != null ? "unix" : "tcp")}:"
        + Address + (_options.Server ? ",server=on" : "");

    protected override int InputFd => (int)(_peer?.Handle ?? -1);
    protected override int OutputFd => InputFd;

    string Address => _options.Fd >= 0 ? $"fd {_options.Fd}" : _options.Path ?? $"{_options.Host}:{_options.Port}";

    protected override int ReadSome(Span<byte> buffer)
    {
        int n = _peer!.Receive(buffer, SocketFlags.None, out SocketError error);
        return error switch { SocketError.Success => n, SocketError.WouldBlock => -EAgain, _ => -EIo };
    }

    protected override int WriteSome(ReadOnlySpan<byte> data)
    {
        int n = _peer!.Send(data, SocketFlags.None, out SocketError error);
        return error switch { SocketError.Success => n, SocketError.WouldBlock => -EAgain, _ => -EIo };
    }

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
        if (_telnet.Answers.Count > 0) _peer?.Send(_telnet.Answers.ToArray(), SocketFlags.None, out _);
        for (int i = 0; i < breaks; i++) Frontend?.Event(CharEvent.Break);
        return kept;
    }

    protected override void OnHangUp()
    {
        _peer?.Dispose();
        _peer = null;
        if (_listener != null) WatchListener();
        else if (_options.ReconnectSeconds > 0) _reconnect.Change(_options.ReconnectSeconds * 1000, Timeout.Infinite);
    }

    /// <summary>Under the machine lock.</summary>
    public void Dispose()
    {
        _reconnect.Dispose();
        Detach();
        _peer?.Dispose();
        if (_listener != null) Loop.Unwatch((int)_listener.Handle);
        _listener?.Dispose();
        if (_options is { Server: true, Path: { } path }) File.Delete(path);
    }

    void Listen()
    {
        try
        {
            if (_options.Fd >= 0) _listener = new Socket(new SafeSocketHandle(_options.Fd, ownsHandle: true));
            else
            {
                EndPoint endPoint = EndPointOf(out AddressFamily family);
                _listener = new Socket(family, SocketType.Stream, _options.Path != null ? ProtocolType.Unspecified : ProtocolType.Tcp);
                if (_options.Path != null) RemoveStale(_options.Path);
                else if (family == AddressFamily.InterNetworkV6) _listener.DualMode = _options.Ipv4 != false && _options.Host.Length == 0;
                _listener.Bind(endPoint);
                _listener.Listen(1);
            }
        }
        catch (SocketException e)
        {
            string hint = e.SocketErrorCode == SocketError.AddressAlreadyInUse ? "; another program listens there: choose another port" : "";
            throw new ConfigurationException($"{_owner}: cannot listen on {Address}: {e.Message}{hint}", e);
        }
        if (_options.Wait)
        {
            Console.Error.WriteLine($"qkvm: -chardev {Id}: waiting for a connection on {Address} (wait=off starts without)");
            _listener.Blocking = true;
            Adopt(_listener.Accept());
            return;
        }
        _listener.Blocking = false;
        WatchListener();
    }

    void WatchListener()
    {
        _listener!.Blocking = false;
        Loop.Watch((int)_listener.Handle, FdEvents.Readable, _ => Accept());
    }

    void Accept()
    {
        Socket peer;
        try { peer = _listener!.Accept(); }
        catch (SocketException) { return; }                        // gone before we looked
        Loop.Unwatch((int)_listener.Handle);                       // one at a time: the next waits in the backlog
        Adopt(peer);
    }

    void Adopt(Socket peer)
    {
        _peer = peer;
        peer.Blocking = false;
        if (_options.Path == null && _options.Fd < 0) peer.NoDelay = _options.NoDelay;
        _telnet.Reset();
        if (_options.Telnet) peer.Send(Telnet.Greeting, SocketFlags.None, out _);
        Opened();
    }

    void TryReconnect()
    {
        if (_peer == null && !TryConnect(out _)) _reconnect.Change(_options.ReconnectSeconds * 1000, Timeout.Infinite);
    }

    bool TryConnect(out string why)
    {
        why = "";
        try
        {
            if (_options.Fd >= 0) { Adopt(new Socket(new SafeSocketHandle(_options.Fd, ownsHandle: true))); return true; }
            EndPoint endPoint = EndPointOf(out AddressFamily family);
            var socket = new Socket(family, SocketType.Stream, _options.Path != null ? ProtocolType.Unspecified : ProtocolType.Tcp);
            socket.Connect(endPoint);
            Adopt(socket);
            return true;
        }
        catch (SocketException e)
        {
            why = e.Message;
            return false;
        }
    }

    EndPoint EndPointOf(out AddressFamily family)
    {
        if (_options.Path is { } path)
        {
            family = AddressFamily.Unix;
            return new UnixDomainSocketEndPoint(path);
        }
        if (_options.Host.Length == 0)
        {
            bool v6 = _options.Ipv6 != false && _options.Ipv4 != true && Socket.OSSupportsIPv6;
            family = v6 ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork;
            return new IPEndPoint(v6 ? IPAddress.IPv6Any : IPAddress.Any, _options.Port);
        }
        IPAddress address = IPAddress.TryParse(_options.Host, out IPAddress? literal) ? literal : Resolve();
        family = address.AddressFamily;
        return new IPEndPoint(address, _options.Port);
    }

    IPAddress Resolve()
    {
        IPAddress[] all = Dns.GetHostAddresses(_options.Host);
        return all.FirstOrDefault(a => _options.Ipv4 == true ? a.AddressFamily == AddressFamily.InterNetwork
                : _options.Ipv6 != true || a.AddressFamily == AddressFamily.InterNetworkV6)
            ?? throw new ConfigurationException($"{_owner}: host '{_options.Host}' has no fitting address");
    }

    /// <summary>A socket file that nobody listens on any more is in the way; one in use stays.</summary>
    internal static void RemoveStale(string path)
    {
        if (!File.Exists(path)) return;
        using var probe = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try { probe.Connect(new UnixDomainSocketEndPoint(path)); }
        catch (SocketException) { File.Delete(path); }
    }
}
