using System.Net.Sockets;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>What -netdev socket and stream say of a connection.</summary>
/// <param name="Reconnect">The pause before a client tries again; zero for never.</param>
public sealed record StreamNetOptions(string Id, string Type, SocketAddress Address, bool IsServer,
    TimeSpan Reconnect = default);

/// <summary>A cable to another machine over a connection, which may break and come again. A server takes one client at
/// a time; the next one waits.</summary>
/// <remarks>Made, connected and opened on the main loop, under the machine lock.</remarks>
public sealed class StreamNet : NetBackend, IDisposable
{
    readonly StreamNetOptions _options;
    readonly EventLoop _main;
    readonly Listener? _listener;
    readonly Connector? _connector;
    StreamWire? _wire;
    End? _end;
    bool _isDisposed;

    /// <param name="owner">The option, for messages: "-netdev stream,id=n".</param>
    /// <exception cref="ConfigurationException">It cannot listen there, or nobody answers.</exception>
    public StreamNet(string owner, StreamNetOptions options, EventLoop main) : base(options.Id)
    {
        (_options, _main) = (options, main);
        try
        {
            if (options.IsServer)
            {
                _listener = new Listener(options.Address, main, Adopt, backlog: 1);
                _listener.Start();
            }
            else if (options.Reconnect == default) Adopt(Connector.Connect(options.Address, Patience));
            else
            {
                _connector = new Connector(options.Address, main, options.Reconnect, Adopt, static _ => { });
                _connector.Start();
            }
        }
        catch (HostException e)
        {
            string hint = options.IsServer && e.Errno == Libc.EAddrInUse
                ? "; another program listens there: choose another address"
                : options.Address is DescriptorAddress
                ? "; the program that starts this one must open it and let it be inherited"
                : !options.IsServer ? "; start the other end first, or use -netdev stream,…,reconnect=1" : "";
            throw new ConfigurationException($"{owner}: {e.Message}{hint}", e);
        }
        catch (SocketException e)
        {
            throw new ConfigurationException($"{owner}: {options.Address}: {e.Message}", e);
        }
    }

    /// <summary>How long a peer may take to answer while nobody else can work.</summary>
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    public override string Description =>
        $"index=0,type={_options.Type},{(_wire == null ? IsConnecting : $"{Prefix}{How} {Peer}")}";

    /// <summary>Frames that could not be sent, or were none.</summary>
    public long Dropped => _wire?.Dropped ?? 0;

    public bool IsConnected => _wire != null;

    /// <summary>Where a server listens; the ports that were chosen.</summary>
    public IReadOnlyList<SocketName> Names => _listener?.Names ?? [];

    string Prefix => _options.Type == "socket" ? "socket: " : "";
    string How => _options.IsServer ? "connection from" : "connect to";
    string Peer => _options.Address is UnixAddress ? $"{_options.Address}" : $"{_wire!.PeerName}";
    string IsConnecting => $"{(_options.IsServer ? "listening on" : "connecting to")} "
        + $"{(_listener?.Names is [{ Service.Length: > 0 } name, ..] ? name : _options.Address)}";

    public override INetQueue Open(int index, INetPort port, IoLoop loop)
    {
        if (_end != null) throw new InvalidOperationException($"{Id} is connected already");
        _end = new End(this, port, loop) { Wire = _wire };
        _wire?.Attach(port, loop);
        return _end;
    }

    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        _connector?.Dispose();
        _listener?.Dispose();
        _wire?.Dispose();
        _wire = null;
    }

    void Adopt(StreamSocket peer)
    {
        if (_isDisposed || _wire != null) { peer.Dispose(); return; }
        _listener?.Stop();                                         // the next waits in the backlog
        _wire = new StreamWire(peer, gone => _main.Post(() => Lost(gone)));
        if (_end is not { } end) return;
        end.Wire = _wire;
        _wire.Attach(end.Port, end.Loop);
    }

    void Lost(StreamWire gone)
    {
        if (_wire != gone) return;
        _wire = null;
        if (_end != null) _end.Wire = null;
        gone.Dispose();
        if (_isDisposed) return;
        _listener?.Start();
        _connector?.Lost();
    }

    sealed class End(StreamNet net, INetPort port, IoLoop loop) : INetQueue
    {
        volatile StreamWire? _wire;

        public StreamWire? Wire { get => _wire; set => _wire = value; }
        public INetPort Port => port;
        public IoLoop Loop => loop;

        public void Accept(NetOffloads offloads) { }
        public void Send(in NetHeader header, in ScatterList frame) => _wire?.Send(frame);
        public void Resume() => _wire?.Resume();

        public void Dispose()
        {
            if (net._end != this) return;
            net._end = null;
            _wire?.Detach();
            _wire = null;
        }
    }
}
