using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>Where a socket backend listens or connects: -chardev socket's options.</summary>
/// <param name="Path">A UNIX socket's path; otherwise host and port.</param>
/// <param name="Fd">An inherited descriptor, or -1.</param>
/// <param name="To">The last port to try.</param>
/// <param name="Reconnect">The pause before a client tries again; zero for never.</param>
public sealed record SocketOptions(string? Path, string Host, int Port, bool Server, bool Wait, bool Telnet,
    bool? Ipv4 = null, bool? Ipv6 = null, bool NoDelay = true, TimeSpan Reconnect = default, int Fd = -1,
    int? To = null, bool WebSocket = false, bool IsAbstract = false, bool IsTight = true,
    string? TlsCredentials = null)
{
    public static SocketOptions Of(Properties properties)
    {
        string? path = properties.Text("path");
        int? fd = (int?)properties.NumberOrAuto("fd"), port = (int?)properties.NumberOrAuto("port");
        if (path == null && fd == null && port == null) throw properties.Error("needs path= or port=");
        bool server = properties.Bool("server");
        if (server && Reconnects(properties) != default)
            throw properties.Error("reconnect= is of a client; leave it out beside server=on");
        if (!server && properties.OnOffAuto("wait") != null)
            throw properties.Error("wait= is of a server; leave it out, or give server=on");
        if (!server && properties.Bool("websocket"))
            throw properties.Error("websocket=on is of a server; give server=on");
        return new SocketOptions(path, properties.Required("host"), port ?? 0, server, server
            && properties.OnOffAuto("wait") != false,
            properties.Bool("telnet"), properties.OnOffAuto("ipv4"), properties.OnOffAuto("ipv6"),
            NoDelay: !(properties.OnOffAuto("delay") ?? properties.OnOffAuto("nodelay") == false),
            Reconnects(properties), fd ?? -1, (int?)properties.NumberOrAuto("to"), properties.Bool("websocket"),
            properties.Bool("abstract"), properties.Bool("tight"), properties.Text("tls-creds"));
    }

    public SocketAddress Address => Fd >= 0 ? new DescriptorAddress(Fd)
        : Path != null ? new UnixAddress(Path, IsAbstract, IsTight) : new InternetAddress(Host, Port, To, Ipv4, Ipv6);

    static TimeSpan Reconnects(Properties properties)
    {
        ulong seconds = properties.Number("reconnect"), milliseconds = properties.Number("reconnect-ms");
        if (seconds != 0 && milliseconds != 0)
            throw properties.Error("reconnect= and reconnect-ms= say the same; give one of them");
        return TimeSpan.FromMilliseconds(seconds * 1000 + milliseconds);
    }
}
