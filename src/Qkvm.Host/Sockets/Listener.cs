using System.Net;
using System.Net.Sockets;

namespace Qkvm.Host.Sockets;

// SAFETY: the array of descriptors lies on the stack for the time of the call.
/// <summary>Listens at an address, on each interface that it names, and hands clients over. Main loop, under the
/// machine lock.</summary>
public sealed class Listener : IDisposable
{
    const int SocketLevel = 1, ReuseAddress = 2, Ipv6Level = 41, Ipv6Only = 26;

    readonly EventLoop _loop;
    readonly Action<StreamSocket> _onClient;
    readonly List<int> _sockets = [];
    readonly string? _file;
    bool _watching;

    /// <param name="onClient">Takes a client's ownership.</param>
    /// <param name="backlog">How many clients may wait to be taken.</param>
    /// <exception cref="HostException">In use, not this machine's, not allowed …; the errno says which.</exception>
    /// <exception cref="SocketException">A name that does not resolve.</exception>
    public Listener(SocketAddress address, EventLoop loop, Action<StreamSocket> onClient, int backlog = 16)
    {
        (_loop, _onClient) = (loop, onClient);
        try
        {
            switch (address)
            {
                case InternetAddress internet: ListenAt(internet, backlog); break;
                case UnixAddress unix: _file = ListenAt(unix, backlog); break;
                case VsockAddress vsock: Add(SocketName.Vsock, SocketName.Encode(vsock), backlog, $"{vsock}"); break;
                case DescriptorAddress inherited: Inherit(inherited.Fd); break;
            }
        }
        catch
        {
            CloseAll();
            throw;
        }
    }

    /// <summary>Where it listens; the ports that were chosen.</summary>
    public IReadOnlyList<SocketName> Names => [.. _sockets.Select(fd => StreamSocket.NameOf(fd, peer: false))];

    /// <summary>Takes clients as they come. Idempotent.</summary>
    public void Start()
    {
        if (_watching) return;
        _watching = true;
        foreach (int fd in _sockets) _loop.Watch(fd, FdEvents.Readable, _ => Accept(fd));
    }

    /// <summary>Lets clients wait. Idempotent.</summary>
    public void Stop()
    {
        if (!_watching) return;
        _watching = false;
        foreach (int fd in _sockets) _loop.Unwatch(fd);
    }

    /// <summary>Waits for the first client: before the machine runs alone.</summary>
    public unsafe StreamSocket WaitForClient()
    {
        const short readable = 1;
        PollFd* polled = stackalloc PollFd[_sockets.Count];
        while (true)
        {
            for (int i = 0; i < _sockets.Count; i++) polled[i] = new PollFd { Fd = _sockets[i], Events = readable };
            Libc.poll(polled, (nuint)_sockets.Count, -1);
            for (int i = 0; i < _sockets.Count; i++)
                if (polled[i].Occurred != 0 && StreamSocket.Accept(_sockets[i]) is >= 0 and var client)
                    return new StreamSocket(client);
        }
    }

    public void Dispose()
    {
        Stop();
        CloseAll();
        if (_file != null) HostFile.TryRemove(_file);
    }

    void Accept(int listener)
    {
        int client = StreamSocket.Accept(listener);
        if (client >= 0) _onClient(new StreamSocket(client));      // otherwise it was gone before we looked
    }

    /// <summary>The first port of the range that is free on all addresses; a host without one of the families uses the
    /// other.</summary>
    void ListenAt(InternetAddress address, int backlog)
    {
        IReadOnlyList<IPAddress> all = address.Resolve(listening: true);
        for (int port = address.Port; ; port++)
        {
            int failure = TryPort(address, all, port, backlog);
            if (failure == 0) return;
            if (failure != Libc.EAddrInUse || port >= (address.Last ?? address.Port))
                throw new HostException($"cannot listen on {address}", failure);
        }
    }

    /// <returns>0, or an errno.</returns>
    int TryPort(InternetAddress address, IReadOnlyList<IPAddress> all, int port, int backlog)
    {
        int failure = Libc.EAddrNotAvail;
        foreach (IPAddress one in all)
        {
            bool wide = one.AddressFamily == AddressFamily.InterNetworkV6;
            int fd = StreamSocket.Open(wide ? SocketName.Inet6 : SocketName.Inet);
            if (fd < 0) { failure = Libc.Errno; continue; }
            StreamSocket.SetOption(fd, SocketLevel, ReuseAddress, 1);
            // "::" takes IPv4 too, unless only one family is wanted: then 0.0.0.0 needs no socket of its own.
            bool both = one.Equals(IPAddress.IPv6Any) && all.Count > 1;
            if (wide) StreamSocket.SetOption(fd, Ipv6Level, Ipv6Only, both ? 0 : 1);
            if (StreamSocket.Bind(fd, SocketName.Encode(one, port)) < 0 || Libc.listen(fd, backlog) < 0)
            {
                failure = Libc.Errno;
                Libc.close(fd);
                if (failure != Libc.EAddrInUse) continue;
                CloseAll();
                return failure;
            }
            _sockets.Add(fd);
            if (both) break;
        }
        return _sockets.Count > 0 ? 0 : failure;
    }

    /// <returns>The file to delete at the end.</returns>
    string? ListenAt(UnixAddress address, int backlog)
    {
        byte[] name = SocketName.Encode(address)
            ?? throw new HostException($"cannot listen on {address}", Libc.ENameTooLong);
        if (!address.IsAbstract) RemoveStale(address.Path, name);
        Add(SocketName.Unix, name, backlog, $"{address}");
        return address.IsAbstract ? null : address.Path;
    }

    void Add(int family, byte[] name, int backlog, string shown)
    {
        int fd = StreamSocket.Open(family);
        if (fd < 0) throw new HostException($"cannot listen on {shown}", Libc.Errno);
        _sockets.Add(fd);
        if (StreamSocket.Bind(fd, name) < 0 || Libc.listen(fd, backlog) < 0)
            throw new HostException($"cannot listen on {shown}", Libc.Errno);
    }

    void Inherit(int fd)
    {
        if (StreamSocket.Listens(fd) != true)
            throw new HostException($"descriptor {fd} is no listening socket", Libc.EInval);
        const int getFlags = 3, setFlags = 4, setDescriptorFlags = 2, closeOnExec = 1;
        Libc.fcntl(fd, setFlags, Libc.fcntl(fd, getFlags, 0) | Libc.ONonBlock);
        Libc.fcntl(fd, setDescriptorFlags, closeOnExec);
        _sockets.Add(fd);
    }

    void CloseAll()
    {
        foreach (int fd in _sockets) Libc.close(fd);
        _sockets.Clear();
    }

    /// <summary>A socket file that nobody listens on any more is in the way; one in use stays, and so does any other
    /// file.</summary>
    static void RemoveStale(string path, byte[] name)
    {
        int opened = Libc.open(path, Libc.ORdOnly | Libc.ONonBlock | Libc.OCloexec, 0);
        if (opened >= 0) Libc.close(opened);
        if (opened >= 0 || Libc.Errno != Libc.ENxio) return;       // a socket cannot be opened, any other file can
        int probe = StreamSocket.Open(SocketName.Unix);
        if (probe < 0) return;
        if (StreamSocket.Connect(probe, name) < 0 && Libc.Errno == Libc.EConnRefused) File.Delete(path);
        Libc.close(probe);
    }
}
