using System.Net;
using System.Net.Sockets;

namespace Qkvm.Host.Sockets;

/// <summary>A datagram socket, UDP or UNIX, with one address that it sends to.</summary>
/// <remarks>Takes datagrams from anybody. Non-blocking; results are bytes, or a negative errno. SAFETY: kernel
/// structures live on the stack for the time of one call; buffers are pinned for it.</remarks>
public sealed unsafe class DatagramSocket : IDisposable
{
    const int NoSignal = 0x4000, NonBlocking = 0x800, CloseOnExec = 0x80000, DatagramType = 2, SocketLevel = 1,
        ReuseAddress = 2, TypeOption = 3;

    readonly byte[] _remote;                                       // empty: a descriptor that is connected
    readonly string? _file;

    DatagramSocket(int fd, byte[] remote, string? file = null) => (Fd, _remote, _file) = (fd, remote, file);

    public int Fd { get; private set; }

    /// <summary>Receives at an address and sends to another of its family.</summary>
    /// <exception cref="HostException">In use, not this machine's, not allowed …</exception>
    /// <exception cref="SocketException">A name that does not resolve.</exception>
    public static DatagramSocket Open(SocketAddress local, SocketAddress remote)
    {
        if (local is UnixAddress from && remote is UnixAddress to) return OpenUnix(from, to);
        if (local is not InternetAddress here || remote is not InternetAddress there)
            throw new HostException($"{local} and {remote} are of different kinds", Libc.EInval);
        IPAddress destination = First(there, null);
        return Bound(First(here, destination.AddressFamily), here.Port, SocketName.Encode(destination, there.Port),
            $"cannot receive at {here}");
    }

    /// <summary>A protocol of its own below IP, which needs CAP_NET_RAW. With IPv4 the datagrams that come begin with
    /// their IP header. raw(7).</summary>
    /// <exception cref="HostException">Not allowed, or not this machine's address.</exception>
    /// <exception cref="SocketException">A name that does not resolve.</exception>
    public static DatagramSocket OpenRaw(InternetAddress local, InternetAddress remote, int protocol)
    {
        const int raw = 3;
        IPAddress destination = First(remote, null);
        return Bound(First(local, destination.AddressFamily), 0, SocketName.Encode(destination, 0),
            $"cannot receive protocol {protocol} at {local.Host}", type: raw, protocol: protocol);
    }

    /// <summary>Joins a group of IPv4, whose members all send to it, this one's own frames included.</summary>
    /// <param name="near">The address of the interface to use; null leaves that to the host's routes.</param>
    /// <exception cref="HostException">No route to the group, or no such interface.</exception>
    public static DatagramSocket Join(InternetAddress group, IPAddress? near)
    {
        const int Ip = 0, MulticastInterface = 32, MulticastLoop = 34, AddMembership = 35;
        IPAddress address = First(group, AddressFamily.InterNetwork);
        DatagramSocket socket = Bound(address, group.Port, SocketName.Encode(address, group.Port),
            $"cannot receive at {group}", ReuseAddress);
        var membership = new byte[8];                              // struct ip_mreq
        address.TryWriteBytes(membership, out _);
        near?.TryWriteBytes(membership.AsSpan(4), out _);
        fixed (byte* request = membership)
        {
            int errno = Libc.setsockopt(socket.Fd, Ip, AddMembership, request, 8) < 0
                || near != null && Libc.setsockopt(socket.Fd, Ip, MulticastInterface, request + 4, 4) < 0
                ? Libc.Errno : 0;
            StreamSocket.SetOption(socket.Fd, Ip, MulticastLoop, 1);
            if (errno == 0) return socket;
            socket.Dispose();
            throw new HostException($"cannot join the group {group}", errno);
        }
    }

    /// <summary>Takes over a descriptor that is connected already.</summary>
    public static DatagramSocket Inherit(int fd)
    {
        const int getFlags = 3, setFlags = 4, setDescriptorFlags = 2, closeOnExec = 1;
        if (IsDatagram(fd) != true) throw new HostException($"descriptor {fd} is no datagram socket", Libc.EInval);
        Libc.fcntl(fd, setFlags, Libc.fcntl(fd, getFlags, 0) | Libc.ONonBlock);
        Libc.fcntl(fd, setDescriptorFlags, closeOnExec);
        return new DatagramSocket(fd, []);
    }

    /// <summary>What kind of socket an inherited descriptor is; null: none.</summary>
    public static bool? IsDatagram(int fd)
    {
        int type = 0;
        uint length = sizeof(int);
        return Libc.getsockopt(fd, SocketLevel, TypeOption, &type, &length) < 0 ? null : type == DatagramType;
    }

    /// <summary>From now on only the remote end's datagrams come, and its refusals. connect(2).</summary>
    /// <exception cref="HostException">There is no way there.</exception>
    public void ListenToRemoteAlone()
    {
        if (StreamSocket.Connect(Fd, _remote) < 0) throw new HostException("cannot connect", Libc.Errno);
    }

    public int Send(ReadOnlySpan<byte> data)
    {
        fixed (byte* start = data, name = _remote)
        {
            var vector = new Iovec { Base = start, Length = (nuint)data.Length };
            var message = new MessageHeader { Name = name, NameLength = (uint)_remote.Length, Vectors = &vector,
                VectorCount = 1 };
            nint n = Libc.sendmsg(Fd, &message, NoSignal);
            return n < 0 ? -Libc.Errno : (int)n;
        }
    }

    public int Receive(Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            var vector = new Iovec { Base = start, Length = (nuint)buffer.Length };
            var message = new MessageHeader { Vectors = &vector, VectorCount = 1 };
            nint n = Libc.recvmsg(Fd, &message, 0);
            return n < 0 ? -Libc.Errno : (int)n;
        }
    }

    public void Dispose()
    {
        if (Fd < 0) return;
        Libc.close(Fd);
        Fd = -1;
        if (_file != null) HostFile.TryRemove(_file);
    }

    static DatagramSocket OpenUnix(UnixAddress local, UnixAddress remote)
    {
        if (SocketName.Encode(local) is not { } here || SocketName.Encode(remote) is not { } there)
            throw new HostException($"cannot receive at {local}", Libc.ENameTooLong);
        int fd = Libc.socket(SocketName.Unix, DatagramType | NonBlocking | CloseOnExec, 0);
        if (fd >= 0 && StreamSocket.Bind(fd, here) >= 0)
            return new DatagramSocket(fd, there, local.IsAbstract ? null : local.Path);
        int errno = Libc.Errno;
        if (fd >= 0) Libc.close(fd);
        throw new HostException($"cannot receive at {local}", errno);
    }

    static DatagramSocket Bound(IPAddress local, int port, byte[] remote, string failure, int option = 0,
        int type = DatagramType, int protocol = 0)
    {
        int fd = Libc.socket(remote[0], type | NonBlocking | CloseOnExec, protocol);
        if (fd < 0) throw new HostException(failure, Libc.Errno);
        if (option != 0) StreamSocket.SetOption(fd, SocketLevel, option, 1);
        if (StreamSocket.Bind(fd, SocketName.Encode(local, port)) >= 0) return new DatagramSocket(fd, remote);
        int errno = Libc.Errno;
        Libc.close(fd);
        throw new HostException(failure, errno);
    }

    static IPAddress First(InternetAddress address, AddressFamily? family) =>
        address.Host.Length == 0 && family != null
            ? family == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any
            : address.Resolve(listening: false).Where(one => family == null || one.AddressFamily == family)
                .OrderBy(one => one.AddressFamily).FirstOrDefault()
                ?? throw new HostException($"cannot use {address}", Libc.EAddrNotAvail);
}
