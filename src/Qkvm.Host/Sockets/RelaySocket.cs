using System.Buffers;

namespace Qkvm.Host.Sockets;

/// <summary>What a <see cref="RelaySocket"/> carries. Ping: ICMP echo without privileges, icmp(7).</summary>
public enum RelayKind { Stream, Datagram, Ping }

/// <summary>A non-blocking socket through which a user network relays for its guest. Nothing here throws or allocates
/// once it is open.</summary>
/// <remarks>Results are bytes, or a negative errno. SAFETY: kernel structures live on the stack for the time of one
/// call; buffers are pinned for it.</remarks>
public sealed unsafe partial class RelaySocket : IDisposable
{
    const int NoSignal = 0x4000, NonBlocking = 0x800, CloseOnExec = 0x80000;
    const int StreamType = 1, DatagramType = 2, Icmp = 1, Icmp6 = 58, Tcp = 6;
    const int SocketLevel = 1, KeepAlive = 9, ReuseAddress = 2, NoDelay = 1, ShutWrite = 1;
    const int Ip4Level = 0, ReceiveErrors4 = 11, Ip6Level = 41, ReceiveErrors6 = 25, V6Only = 26;
    const int MaxPieces = 64;

    readonly MemoryHandle[] _pins = new MemoryHandle[MaxPieces];

    RelaySocket(int fd) => Fd = fd;

    public int Fd { get; private set; }

    /// <returns>Null and an errno where the host has no more, or no such kind.</returns>
    public static RelaySocket? Open(RelayKind kind, bool isV4, out int errno)
    {
        int type = (kind == RelayKind.Stream ? StreamType : DatagramType) | NonBlocking | CloseOnExec;
        int protocol = kind == RelayKind.Ping ? isV4 ? Icmp : Icmp6 : 0;
        int fd = Libc.socket(isV4 ? SocketName.Inet : SocketName.Inet6, type, protocol);
        errno = fd < 0 ? Libc.Errno : 0;
        if (fd < 0) return null;
        var socket = new RelaySocket(fd);
        if (kind == RelayKind.Stream) socket.Tune();
        else if (isV4) socket.Set(Ip4Level, ReceiveErrors4);
        else socket.Set(Ip6Level, ReceiveErrors6);
        return socket;
    }

    /// <summary>Two that are connected with each other; null where the host has no more.</summary>
    public static (RelaySocket First, RelaySocket Second)? Pair()
    {
        int* pair = stackalloc int[2];
        return Libc.socketpair(SocketName.Unix, StreamType | NonBlocking | CloseOnExec, 0, pair) < 0 ? null
            : (new RelaySocket(pair[0]), new RelaySocket(pair[1]));
    }

    /// <summary>The descriptor is the caller's from now on.</summary>
    public int Detach()
    {
        int fd = Fd;
        Fd = -1;
        return fd;
    }

    /// <summary>0, or an errno: EINPROGRESS until the socket is writable; see <see cref="Error"/> then.</summary>
    public int Connect(IpEndpoint to)
    {
        byte* name = stackalloc byte[IpEndpoint.MaxNameLength];
        int length = to.WriteName(new Span<byte>(name, IpEndpoint.MaxNameLength));
        return Libc.connect(Fd, name, (uint)length) < 0 ? Libc.Errno : 0;
    }

    /// <summary>The errno of what went wrong meanwhile, once.</summary>
    public int Error => StreamSocket.ErrorOf(Fd);

    public IpEndpoint Local
    {
        get
        {
            byte* name = stackalloc byte[SocketName.MaxLength];
            uint length = SocketName.MaxLength;
            return Libc.getsockname(Fd, name, &length) < 0 ? default
                : IpEndpoint.ReadName(new ReadOnlySpan<byte>(name, SocketName.MaxLength));
        }
    }

    /// <summary>Up to 64 pieces at once.</summary>
    public int Send(ReadOnlySpan<Memory<byte>> pieces)
    {
        Iovec* vectors = stackalloc Iovec[MaxPieces];
        int count = Math.Min(pieces.Length, MaxPieces);
        for (int i = 0; i < count; i++)
        {
            _pins[i] = pieces[i].Pin();
            vectors[i] = new Iovec { Base = _pins[i].Pointer, Length = (nuint)pieces[i].Length };
        }
        var message = new MessageHeader { Vectors = vectors, VectorCount = (nuint)count };
        nint n = Libc.sendmsg(Fd, &message, NoSignal);
        int errno = n < 0 ? Libc.Errno : 0;
        for (int i = 0; i < count; i++) _pins[i].Dispose();
        return n < 0 ? -errno : (int)n;
    }

    /// <summary>Reads into one buffer and then the other; 0 at the end of the stream.</summary>
    public int Receive(Span<byte> first, Span<byte> second)
    {
        fixed (byte* one = first, two = second)
        {
            Iovec* vectors = stackalloc Iovec[2];
            vectors[0] = new Iovec { Base = one, Length = (nuint)first.Length };
            vectors[1] = new Iovec { Base = two, Length = (nuint)second.Length };
            var message = new MessageHeader { Vectors = vectors, VectorCount = second.IsEmpty ? 1u : 2 };
            nint n = Libc.recvmsg(Fd, &message, 0);
            return n < 0 ? -Libc.Errno : (int)n;
        }
    }

    public void ShutdownWrite() => Libc.shutdown(Fd, ShutWrite);

    /// <summary>Closes so that the other end sees a reset, not an end.</summary>
    public void Abort()
    {
        const int lingerOption = 13;
        ulong lingerNoTime = 1;                                    // struct linger: on, for 0 seconds
        Libc.setsockopt(Fd, SocketLevel, lingerOption, &lingerNoTime, sizeof(ulong));
        Dispose();
    }

    public void Dispose()
    {
        if (Fd >= 0) Libc.close(Fd);
        Fd = -1;
    }

    void Tune()
    {
        Set(Tcp, NoDelay);
        Set(SocketLevel, KeepAlive);
    }

    void Set(int level, int option) => StreamSocket.SetOption(Fd, level, option, 1);
}
