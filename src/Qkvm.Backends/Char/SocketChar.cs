using System.Net.Sockets;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>Where a socket backend listens or connects: -chardev socket's options.</summary>
/// <param name="Path">A UNIX socket's path; otherwise host and port.</param>
/// <param name="Fd">An inherited descriptor, or -1.</param>
/// <param name="To">The last port to try.</param>
public sealed record SocketOptions(string? Path, string Host, int Port, bool Server, bool Wait, bool Telnet,
    bool? Ipv4 = null, bool? Ipv6 = null, bool NoDelay = true, int ReconnectSeconds = 0, int Fd = -1, int? To = null)
{
    public SocketAddress Address => Fd >= 0 ? new DescriptorAddress(Fd) : Path != null ? new UnixAddress(Path)
        : new InternetAddress(Host, Port, To, Ipv4, Ipv6);
}

/// <summary>A TCP or UNIX socket, server or client, plain or telnet. A server takes one client at a time.</summary>
public sealed class SocketChar : StreamChar, IDisposable
{
    readonly SocketOptions _options;
    readonly Telnet _telnet = new();
    readonly Listener? _listener;
    readonly Connector? _connector;
    StreamSocket? _peer;

    public SocketChar(string id, SocketOptions options, EventLoop loop, string owner) : base(id, loop)
    {
        _options = options;
        string what = options.Server ? "listen on" : "connect to";
        try
        {
            if (options.Server) _listener = Listen();
            else if (options.ReconnectSeconds == 0) Adopt(Connector.Connect(options.Address));
            else
            {
                _connector = new Connector(options.Address, loop, TimeSpan.FromSeconds(options.ReconnectSeconds), Adopt, static _ => { });
                _connector.Start();
            }
        }
        catch (HostException e)
        {
            string hint = e.Errno == Libc.EAddrInUse ? "; another program listens there: choose another port" : "";
            throw new ConfigurationException($"{owner}: {e.Message}{hint}", e);
        }
        catch (SocketException e) { throw new ConfigurationException($"{owner}: cannot {what} {options.Address}: {e.Message}", e); }
    }

    public override string Description
    {
        get
        {
            string server = _options.Server ? ",server=on" : "", kind = _options.Telnet ? "telnet" : "tcp";
            if (_peer is not { } peer) return $"disconnected:{(_options.Path != null ? "unix" : kind)}:{_options.Address}{server}";
            SocketName local = peer.LocalName;
            return local.Family == "unix" ? $"unix:{(local.Service.Length > 0 ? local : _options.Address)}{server}"
                : $"{kind}:{local}{server} <-> {peer.PeerName}";
        }
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
        for (int i = 0; i < breaks; i++) Frontend?.Event(CharEvent.Break);
        return kept;
    }

    protected override void OnHangUp()
    {
        _peer = null;
        _listener?.Start();
        _connector?.Lost();
    }

    /// <summary>Under the machine lock.</summary>
    public void Dispose()
    {
        Detach();
        _connector?.Dispose();
        _listener?.Dispose();
    }

    Listener Listen()
    {
        var listener = new Listener(_options.Address, Loop, Adopt, backlog: 1);
        if (!_options.Wait) listener.Start();
        else
        {
            Console.Error.WriteLine($"qkvm: -chardev {Id}: waiting for a connection on {_options.Address} (wait=off starts without)");
            Adopt(listener.WaitForClient());
        }
        return listener;
    }

    void Adopt(StreamSocket peer)
    {
        _listener?.Stop();                                         // one at a time: the next waits in the backlog
        _peer = peer;
        if (_options.Path == null && _options.Fd < 0) peer.SetNoDelay(_options.NoDelay);
        _telnet.Reset();
        if (_options.Telnet) peer.Write(Telnet.Greeting);
        Open(peer);
    }
}
