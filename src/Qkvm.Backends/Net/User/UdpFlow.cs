using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>A port of the guest and the socket that stands for it.</summary>
/// <param name="remote">All zeros: whoever is sent to or answers.</param>
/// <param name="forward">The socket of a forwarded port, and who is at its other end; null: the flow's own.</param>
sealed class UdpFlow(UserStack stack, IpEndpoint guest, IpEndpoint remote, RelaySocket socket, bool isNameserver,
    IpEndpoint? client = null)
{
    // RFC 4787, REQ-5: at least two minutes; a question to a nameserver is answered sooner
    const int Lifetime = 240_000, NameserverLifetime = 10_000;
    const int ReadAtOnce = 64;                                     // datagrams, before others get their turn

    bool _isWatched;

    public IpEndpoint Guest => guest;
    public IpEndpoint Remote => remote;
    public bool IsForwarded => client != null;
    public MacAddress Mac { get; set; }
    public long LastUsed { get; private set; } = stack.Now;

    public bool IsExpired => stack.Now - LastUsed > (isNameserver ? NameserverLifetime : Lifetime);

    IpAddress Ours => guest.Address.IsV4 ? stack.Options.Host : stack.Options.Host6;

    public UserConnection Describe() => new(UserProtocol.Udp,
        $"{((isNameserver ? NameserverLifetime : Lifetime) - (stack.Now - LastUsed)) / 1000} sec", socket.Fd,
        $"{guest.Address}", guest.Port, remote == default ? "*" : $"{remote.Address}", remote.Port, 0, 0);

    /// <summary>The guest's data to where it sent them, as the host knows it.</summary>
    public void Send(IpEndpoint to, IpEndpoint real, ReadOnlySpan<byte> data)
    {
        LastUsed = stack.Now;
        int sent = socket.SendTo(data, client ?? real);
        if (sent is -Libc.ENetUnreach or -Libc.EHostUnreach)
            stack.Icmp.Unreachable(new TcpKey(guest, to), Ours, Mac, data, -sent);
        // What an earlier datagram met is told by the socket once, in place of sending this one.
        else if (sent == -Libc.EConnRefused) socket.SendTo(data, client ?? real);
    }

    /// <summary>On the loop.</summary>
    public void Watch()
    {
        if (socket.Fd < 0 || IsForwarded) return;
        _isWatched = true;
        stack.Loop.Watch(socket.Fd, FdEvents.Readable, OnReady);
    }

    /// <summary>On the loop.</summary>
    public void Close()
    {
        if (IsForwarded) return;
        if (_isWatched) stack.Loop.Unwatch(socket.Fd);
        socket.Dispose();
    }

    void OnReady(FdEvents events)
    {
        using UserStack.LoopScope scope = stack.OnLoop();
        if ((events & FdEvents.Error) != 0) ReadFailures();
        for (int budget = ReadAtOnce; budget > 0; budget--)
        {
            int length = socket.ReceiveFrom(stack.Udp.DataFor(guest.Address.IsV4), out IpEndpoint from);
            if (length == -Libc.EAgain) return;
            if (length < 0) continue;                              // tells what became of an earlier one
            LastUsed = stack.Now;
            IpEndpoint source = isNameserver ? remote : stack.Routes.FromHost(from, guest.Address.IsV4);
            stack.Udp.SendToGuest(source, guest, Mac, length);
        }
    }

    void ReadFailures()
    {
        const int quoted = 512;
        Span<byte> data = stackalloc byte[quoted];
        for (int budget = ReadAtOnce; budget > 0; budget--)
        {
            int length = socket.ReceiveFailure(data, out DeliveryFailure failure);
            if (length < 0) return;
            bool isV4 = guest.Address.IsV4;
            IpEndpoint to = isNameserver ? remote : stack.Routes.FromHost(failure.To, isV4);
            IpAddress by = failure.By.Bits == 0 || failure.By.IsV4 != isV4 || failure.By.IsLoopback
                ? Ours : failure.By;
            stack.Icmp.Unreachable(new TcpKey(guest, to), by, Mac, data[..length], failure.Errno);
        }
    }
}
