using System.Buffers.Binary;

namespace Qkvm.Host.Sockets;

/// <summary>A datagram that did not arrive.</summary>
/// <param name="To">Where it was sent.</param>
/// <param name="By">Who says so; all zeros for this host itself.</param>
/// <param name="Type">Of ICMP or ICMPv6; 0 for an error without a message, which <paramref name="Errno"/>
/// names.</param>
public readonly record struct DeliveryFailure(IpEndpoint To, IpAddress By, int Errno, byte Type, byte Code);

/// <summary>Datagrams and listening.</summary>
/// <remarks>SAFETY: names, control data and buffers are on the stack or pinned for the time of a call.</remarks>
public sealed unsafe partial class RelaySocket
{
    const int ErrorQueue = 0x2000, MaxControl = 128;

    public int SendTo(ReadOnlySpan<byte> data, IpEndpoint to)
    {
        byte* name = stackalloc byte[IpEndpoint.MaxNameLength];
        int length = to.WriteName(new Span<byte>(name, IpEndpoint.MaxNameLength));
        fixed (byte* start = data)
        {
            var vector = new Iovec { Base = start, Length = (nuint)data.Length };
            var message = new MessageHeader { Name = name, NameLength = (uint)length, Vectors = &vector,
                VectorCount = 1 };
            nint n = Libc.sendmsg(Fd, &message, NoSignal);
            return n < 0 ? -Libc.Errno : (int)n;
        }
    }

    public int ReceiveFrom(Span<byte> buffer, out IpEndpoint from)
    {
        byte* name = stackalloc byte[SocketName.MaxLength];
        fixed (byte* start = buffer)
        {
            var vector = new Iovec { Base = start, Length = (nuint)buffer.Length };
            var message = new MessageHeader { Name = name, NameLength = SocketName.MaxLength, Vectors = &vector,
                VectorCount = 1 };
            nint n = Libc.recvmsg(Fd, &message, 0);
            from = n < 0 ? default : IpEndpoint.ReadName(new ReadOnlySpan<byte>(name, SocketName.MaxLength));
            return n < 0 ? -Libc.Errno : (int)n;
        }
    }

    /// <summary>The next datagram that did not arrive. ip(7), IP_RECVERR.</summary>
    /// <param name="buffer">Gets the datagram's data, or their start.</param>
    /// <returns>Bytes of it; negative if there is none.</returns>
    public int ReceiveFailure(Span<byte> buffer, out DeliveryFailure failure)
    {
        const int extendedError = 16;                              // bytes of struct sock_extended_err
        byte* name = stackalloc byte[SocketName.MaxLength];
        byte* control = stackalloc byte[MaxControl];
        failure = default;
        fixed (byte* start = buffer)
        {
            var vector = new Iovec { Base = start, Length = (nuint)buffer.Length };
            var message = new MessageHeader { Name = name, NameLength = SocketName.MaxLength, Vectors = &vector,
                VectorCount = 1, Control = control, ControlLength = MaxControl };
            nint n = Libc.recvmsg(Fd, &message, ErrorQueue);
            if (n < 0) return -Libc.Errno;
            if (message.ControlLength < (nuint)sizeof(ControlHeader) + extendedError + 16) return 0;
            var error = new ReadOnlySpan<byte>(control + sizeof(ControlHeader),
                (int)message.ControlLength - sizeof(ControlHeader));
            const byte byIcmp = 2, byIcmp6 = 3;
            bool hasMessage = error[4] is byIcmp or byIcmp6;
            failure = new DeliveryFailure(IpEndpoint.ReadName(new ReadOnlySpan<byte>(name, SocketName.MaxLength)),
                hasMessage ? IpEndpoint.ReadName(error[extendedError..]).Address : default,
                BinaryPrimitives.ReadInt32LittleEndian(error), hasMessage ? error[5] : (byte)0, error[6]);
            return (int)n;
        }
    }

    /// <summary>0, or an errno.</summary>
    public int Bind(IpEndpoint at)
    {
        byte* name = stackalloc byte[IpEndpoint.MaxNameLength];
        int length = at.WriteName(new Span<byte>(name, IpEndpoint.MaxNameLength));
        return Libc.bind(Fd, name, (uint)length) < 0 ? Libc.Errno : 0;
    }

    /// <summary>0, or an errno.</summary>
    public int Listen(IpEndpoint at, int backlog)
    {
        Set(SocketLevel, ReuseAddress);
        int errno = Bind(at);
        return errno != 0 ? errno : Libc.listen(Fd, backlog) < 0 ? Libc.Errno : 0;
    }

    /// <summary>Listens at a UNIX socket's path; null and an errno if it cannot.</summary>
    public static RelaySocket? ListenUnix(string path, int backlog, out int errno)
    {
        errno = Libc.ENameTooLong;
        if (SocketName.Encode(new UnixAddress(path)) is not { } name) return null;
        int fd = StreamSocket.Open(SocketName.Unix);
        errno = fd < 0 || StreamSocket.Bind(fd, name) < 0 || Libc.listen(fd, backlog) < 0 ? Libc.Errno : 0;
        if (errno == 0) return new RelaySocket(fd);
        if (fd >= 0) Libc.close(fd);
        return null;
    }

    /// <summary>The next client, or null if none waits.</summary>
    /// <param name="from">All zeros for a UNIX socket's.</param>
    public RelaySocket? Accept(out IpEndpoint from)
    {
        byte* name = stackalloc byte[SocketName.MaxLength];
        uint length = SocketName.MaxLength;
        new Span<byte>(name, SocketName.MaxLength).Clear();
        int fd = Libc.accept4(Fd, name, &length, NonBlocking | CloseOnExec);
        from = fd < 0 ? default : IpEndpoint.ReadName(new ReadOnlySpan<byte>(name, SocketName.MaxLength));
        if (fd < 0) return null;
        var client = new RelaySocket(fd);
        client.Tune();
        return client;
    }
}
