namespace Qkvm.Host.Sockets;

/// <summary>A connected stream socket: TCP, UNIX or vsock. Descriptors that come with bytes wait until somebody takes
/// them.</summary>
/// <remarks>SAFETY: kernel structures live on the stack for the time of one call; buffers are pinned for it.</remarks>
public sealed unsafe class StreamSocket : ITransport
{
    const int NoSignal = 0x4000, More = 0x8000, CloseOnExec = 0x40000000, NonBlocking = 0x800,
        SocketCloseOnExec = 0x80000;
    const int Tcp = 6, TcpNoDelay = 1, SocketLevel = 1, ErrorOption = 4, AcceptsOption = 30, DomainOption = 39;
    const int MaxDescriptors = 16;                                 // of one message; more are closed by the kernel

    readonly Queue<int> _descriptors = new();
    int _fd;

    /// <param name="fd">Becomes this object's own, and non-blocking.</param>
    public StreamSocket(int fd)
    {
        const int getFlags = 3, setFlags = 4, setDescriptorFlags = 2, closeOnExec = 1;
        _fd = fd;
        Libc.fcntl(fd, setFlags, Libc.fcntl(fd, getFlags, 0) | Libc.ONonBlock);
        Libc.fcntl(fd, setDescriptorFlags, closeOnExec);
    }

    /// <summary>A pair of UNIX sockets; the other end is for a child process, which inherits it. Throws
    /// HostException.</summary>
    public static (StreamSocket Ours, int Theirs) InheritablePair()
    {
        const int Unix = 1, Stream = 1;
        int* pair = stackalloc int[2];
        if (Libc.socketpair(Unix, Stream, 0, pair) < 0) throw new HostException("cannot make a socket", Libc.Errno);
        return (new StreamSocket(pair[0]), pair[1]);
    }

    public int InputFd => _fd;
    public int OutputFd => _fd;

    public SocketName LocalName => NameOf(_fd, peer: false);
    public SocketName PeerName => NameOf(_fd, peer: true);

    /// <summary>TCP sends small pieces at once. No effect on other sockets.</summary>
    public void SetNoDelay(bool on)
    {
        int value = on ? 1 : 0;
        Libc.setsockopt(_fd, Tcp, TcpNoDelay, &value, sizeof(int));
    }

    public int Read(Span<byte> buffer)
    {
        const int controlLength = 16 + MaxDescriptors * sizeof(int);
        byte* control = stackalloc byte[controlLength];
        fixed (byte* data = buffer)
        {
            var vector = new Iovec { Base = data, Length = (nuint)buffer.Length };
            var message = new MessageHeader { Vectors = &vector, VectorCount = 1, Control = control,
                ControlLength = controlLength };
            nint n = Libc.recvmsg(_fd, &message, CloseOnExec);
            if (n < 0) return -Libc.Errno;
            var header = (ControlHeader*)control;
            if (message.ControlLength >= (nuint)sizeof(ControlHeader) && header->Level == ControlHeader.SolSocket
                && header->Type == ControlHeader.ScmRights)
                Keep(new ReadOnlySpan<int>(control + sizeof(ControlHeader),
                    (int)(header->Length - (nuint)sizeof(ControlHeader)) / sizeof(int)));
            return (int)n;
        }
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        fixed (byte* start = data)
        {
            nint n = Libc.send(_fd, start, (nuint)data.Length, NoSignal);
            return n >= 0 ? (int)n : -Libc.Errno;
        }
    }

    /// <summary>Writes pieces of memory in order. As <see cref="Write(ReadOnlySpan{byte})"/>.</summary>
    /// <param name="more">More follows at once: TCP need not send what fills no segment.</param>
    internal long Write(Iovec* pieces, int count, bool more)
    {
        var message = new MessageHeader { Vectors = pieces, VectorCount = (nuint)count };
        nint n = Libc.sendmsg(_fd, &message, more ? NoSignal | More : NoSignal);
        return n >= 0 ? n : -Libc.Errno;
    }

    /// <summary>Writes, and sends a descriptor with the first byte. As <see cref="Write"/>.</summary>
    public int WriteWith(int descriptor, ReadOnlySpan<byte> data) => WriteWith([descriptor], data);

    /// <summary>Writes, and sends up to 16 descriptors with the first byte. As <see cref="Write"/>.</summary>
    public int WriteWith(ReadOnlySpan<int> descriptors, ReadOnlySpan<byte> data)
    {
        const int longest = 16 + MaxDescriptors * sizeof(int);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(descriptors.Length, MaxDescriptors);
        byte* control = stackalloc byte[longest];
        var header = (ControlHeader*)control;
        int length = sizeof(ControlHeader) + descriptors.Length * sizeof(int);
        *header = new ControlHeader { Length = (nuint)length, Level = ControlHeader.SolSocket,
            Type = ControlHeader.ScmRights };
        descriptors.CopyTo(new Span<int>(header + 1, MaxDescriptors));
        fixed (byte* start = data)
        {
            var vector = new Iovec { Base = start, Length = (nuint)data.Length };
            var message = new MessageHeader { Vectors = &vector, VectorCount = 1, Control = control,
                ControlLength = (nuint)(length + 7 & ~7) };
            nint n = Libc.sendmsg(_fd, &message, NoSignal);
            return n >= 0 ? (int)n : -Libc.Errno;
        }
    }

    /// <summary>Waits until bytes can be read, or written; false: they cannot after all this time.</summary>
    /// <param name="milliseconds">At most as long.</param>
    public bool Wait(bool forRoom, int milliseconds)
    {
        const short readable = 1, writable = 4;
        var wanted = new PollFd { Fd = _fd, Events = forRoom ? writable : readable };
        return Libc.poll(&wanted, 1, milliseconds) > 0;
    }

    /// <summary>Ends the connection; whoever waits for it on another thread hears of it. The descriptor
    /// stays.</summary>
    public void HangUp()
    {
        const int both = 2;
        Libc.shutdown(_fd, both);
    }

    public int TakeDescriptor() => _descriptors.TryDequeue(out int fd) ? fd : -1;

    public void Dispose()
    {
        if (_fd < 0) return;
        CloseDescriptors();
        Libc.close(_fd);
        _fd = -1;
    }

    /// <summary>Opens a socket of a family; -1 and errno where the host lacks it.</summary>
    internal static int Open(int family) => Libc.socket(family, 1 | NonBlocking | SocketCloseOnExec, 0);

    internal static int Connect(int fd, byte[] name)
    {
        fixed (byte* start = name) return Libc.connect(fd, start, (uint)name.Length);
    }

    internal static int Bind(int fd, byte[] name)
    {
        fixed (byte* start = name) return Libc.bind(fd, start, (uint)name.Length);
    }

    internal static int Accept(int listener) => Libc.accept4(listener, null, null, NonBlocking | SocketCloseOnExec);

    internal static void SetOption(int fd, int level, int option, int value) =>
        Libc.setsockopt(fd, level, option, &value, sizeof(int));

    /// <summary>The errno of a connection that was under way.</summary>
    internal static int ErrorOf(int fd) => Option(fd, ErrorOption) ?? Libc.Errno;

    /// <summary>An inherited descriptor is a socket; whether it listens. Null for anything else.</summary>
    public static bool? Listens(int fd) => Option(fd, DomainOption) == null ? null : Option(fd, AcceptsOption) == 1;

    internal static SocketName NameOf(int fd, bool peer)
    {
        byte* name = stackalloc byte[SocketName.MaxLength];
        uint length = SocketName.MaxLength;
        int result = peer ? Libc.getpeername(fd, name, &length) : Libc.getsockname(fd, name, &length);
        return SocketName.Decode(new ReadOnlySpan<byte>(name, result < 0 ? 0
            : (int)Math.Min(length, SocketName.MaxLength)));
    }

    static int? Option(int fd, int option)
    {
        int value = 0;
        uint length = sizeof(int);
        return Libc.getsockopt(fd, SocketLevel, option, &value, &length) < 0 ? null : value;
    }

    /// <summary>Those that nobody took before the next ones came are closed: a flood of them cannot use up
    /// ours.</summary>
    void Keep(ReadOnlySpan<int> descriptors)
    {
        CloseDescriptors();
        foreach (int fd in descriptors) _descriptors.Enqueue(fd);
    }

    void CloseDescriptors()
    {
        while (_descriptors.TryDequeue(out int fd)) Libc.close(fd);
    }
}
