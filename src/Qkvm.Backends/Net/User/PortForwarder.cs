using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>A port of the host that leads to the guest: it listens from the beginning, and takes clients while a card
/// is there.</summary>
sealed class PortForwarder
{
    const int Backlog = 64;

    readonly RelaySocket _socket;
    UserStack? _stack;
    bool _isWatched, _isRemoved;

    PortForwarder(HostForward rule, RelaySocket socket) => (Rule, _socket) = (rule, socket);

    /// <summary>With the port that was chosen.</summary>
    public HostForward Rule { get; }

    /// <returns>Null and an errno where the host refuses.</returns>
    public static PortForwarder? Open(HostForward rule, out int errno)
    {
        if (rule.Kind == ForwardKind.Unix)
        {
            RelaySocket? unix = RelaySocket.ListenUnix(rule.Path!, Backlog, out errno);
            return unix == null ? null : new PortForwarder(rule, unix);
        }
        bool isTcp = rule.Kind == ForwardKind.Tcp;
        RelaySocket? socket = RelaySocket.Open(isTcp ? RelayKind.Stream : RelayKind.Datagram, rule.Host.Address.IsV4,
            out errno);
        if (socket == null) return null;
        errno = isTcp ? socket.Listen(rule.Host, Backlog) : socket.Bind(rule.Host);
        if (errno == 0)
            return new PortForwarder(rule with { Host = rule.Host with { Port = socket.Local.Port } }, socket);
        socket.Dispose();
        return null;
    }

    public UserConnection Describe() => new(Rule.Kind == ForwardKind.Udp ? UserProtocol.Udp : UserProtocol.Tcp,
        "HOST_FORWARD", _socket.Fd, Rule.Path ?? (Rule.Host.Address.IsUnspecified ? "*" : $"{Rule.Host.Address}"),
        Rule.Host.Port, $"{Rule.Guest.Address}", Rule.Guest.Port, 0, 0);

    /// <summary>On the loop of the stack.</summary>
    public void Start(UserStack stack)
    {
        if (_socket.Fd < 0) return;
        (_stack, _isWatched) = (stack, true);
        stack.Loop.Watch(_socket.Fd, FdEvents.Readable, Rule.Kind == ForwardKind.Udp ? OnDatagram : OnClient);
    }

    /// <summary>On the loop.</summary>
    public void Stop()
    {
        if (_isWatched) _stack!.Loop.Unwatch(_socket.Fd);
        (_stack, _isWatched) = (null, false);
    }

    /// <summary>On the loop, or where there is none any more.</summary>
    public void Close()
    {
        Stop();
        RemoveFile();
        _socket.Dispose();
    }

    /// <summary>Of a UNIX socket: nobody comes any more.</summary>
    public void RemoveFile()
    {
        if (Rule.Path is not { } path || _isRemoved) return;
        _isRemoved = true;                                         // another's may be there later
        Host.HostFile.TryRemove(path);
    }

    void OnClient(FdEvents events)
    {
        using UserStack.LoopScope scope = _stack!.OnLoop();
        if (_socket.Accept(out IpEndpoint from) is not { } client) return;
        _stack.Tcp.Connect(Rule.Guest, _stack.Routes.FromHost(from, Rule.Guest.Address.IsV4), client);
    }

    void OnDatagram(FdEvents events)
    {
        using UserStack.LoopScope scope = _stack!.OnLoop();
        int length = _socket.ReceiveFrom(_stack.Udp.DataFor(Rule.Guest.Address.IsV4), out IpEndpoint from);
        if (length >= 0) _stack.Udp.Forward(Rule.Guest, from, _socket, length);
        else if ((events & FdEvents.Error) != 0) _socket.ReceiveFailure(_stack.Whole, out _);
    }
}
