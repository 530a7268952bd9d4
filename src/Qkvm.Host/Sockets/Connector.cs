using System.Net;
using System.Net.Sockets;

namespace Qkvm.Host.Sockets;

// SAFETY: addresses lie on the stack for the time of the call.
/// <summary>Connects to an address without waiting, and again later where that is wanted. Main loop, under the machine
/// lock.</summary>
/// <param name="reconnect">The pause between attempts; zero for one attempt alone.</param>
public sealed class Connector(SocketAddress address, EventLoop loop, TimeSpan reconnect,
    Action<StreamSocket> onConnected, Action<string> onFailed) : IDisposable
{
    Timer? _timer;
    int _pending = -1;
    bool _disposed;

    /// <summary>Begins an attempt: names are resolved on a pool thread, the rest goes on here.</summary>
    public void Start()
    {
        if (address is not InternetAddress internet || internet.Host.Length == 0
            || IPAddress.TryParse(internet.Host, out _)) { Try(Names(address)); return; }
        _ = Task.Run(() =>
        {
            try
            {
                byte[][] names = Names(internet);
                loop.Post(() => Try(names));
            }
            catch (SocketException e) { loop.Post(() => Failed(e.Message)); }
        });
    }

    /// <summary>The connection was lost: begins again, after the pause.</summary>
    public void Lost() => Again();

    /// <summary>Connects and waits for it: before the machine runs.</summary>
    /// <param name="limit">How long at each address; null: as long as the host tries.</param>
    /// <exception cref="HostException">All addresses refused.</exception>
    /// <exception cref="SocketException">A name that does not resolve.</exception>
    public static unsafe StreamSocket Connect(SocketAddress address, TimeSpan? limit = null)
    {
        const short writable = 4;
        if (address is DescriptorAddress { Fd: var inherited }) return Inherit(inherited);
        int failure = Libc.EAddrNotAvail;
        foreach (byte[] name in Names(address))
        {
            int fd = Begin(name, out failure);
            if (fd < 0) continue;
            var polled = new PollFd { Fd = fd, Events = writable };
            bool isLate = failure == Libc.EInProgress
                && Libc.poll(&polled, 1, (int?)limit?.TotalMilliseconds ?? -1) == 0;
            failure = isLate ? Libc.ETimedOut : StreamSocket.ErrorOf(fd);
            if (failure == 0) return new StreamSocket(fd);
            Libc.close(fd);
        }
        throw new HostException($"cannot connect to {address}", failure);
    }

    public void Dispose()
    {
        _disposed = true;
        _timer?.Dispose();
        DropPending();
    }

    static StreamSocket Inherit(int fd) => StreamSocket.Listens(fd) == false ? new StreamSocket(fd)
        : throw new HostException($"descriptor {fd} is no connected socket", Libc.EInval);

    static byte[][] Names(SocketAddress address) => address switch
    {
        InternetAddress internet =>
            [.. internet.Resolve(listening: false).Select(one => SocketName.Encode(one, internet.Port))],
        UnixAddress unix =>
            [SocketName.Encode(unix) ?? throw new HostException($"cannot connect to {unix}", Libc.ENameTooLong)],
        VsockAddress vsock => [SocketName.Encode(vsock)],
        _ => [],
    };

    /// <summary>One address after another.</summary>
    void Try(byte[][] names, int index = 0)
    {
        if (_disposed) return;
        int failure = Libc.EAddrNotAvail;
        for (; index < names.Length; index++)
        {
            int fd = Begin(names[index], out failure);
            if (fd < 0) continue;
            int next = index + 1;
            if (failure == 0) { onConnected(new StreamSocket(fd)); return; }
            _pending = fd;
            loop.Watch(fd, FdEvents.Writable, _ => Finish(names, next));
            return;
        }
        Failed(Libc.Message(failure));
    }

    void Finish(byte[][] names, int next)
    {
        int failure = StreamSocket.ErrorOf(_pending);
        loop.Unwatch(_pending);
        if (failure == 0)
        {
            int fd = _pending;
            _pending = -1;
            onConnected(new StreamSocket(fd));
            return;
        }
        DropPending();
        if (next < names.Length) Try(names, next);
        else Failed(Libc.Message(failure));
    }

    /// <returns>A descriptor, connected (errno 0) or on its way (EINPROGRESS); or -1.</returns>
    static int Begin(byte[] name, out int errno)
    {
        errno = 0;
        int fd = StreamSocket.Open(name[0]);
        if (fd >= 0 && StreamSocket.Connect(fd, name) >= 0) return fd;
        errno = Libc.Errno;
        if (fd < 0 || errno == Libc.EInProgress) return fd;
        Libc.close(fd);
        return -1;
    }

    void Failed(string why)
    {
        if (_disposed) return;
        onFailed(why);
        Again();
    }

    void Again()
    {
        if (_disposed || reconnect <= TimeSpan.Zero) return;
        _timer ??= new Timer(_ => loop.Post(Start));
        _timer.Change(reconnect, Timeout.InfiniteTimeSpan);
    }

    void DropPending()
    {
        if (_pending < 0) return;
        loop.Unwatch(_pending);
        Libc.close(_pending);
        _pending = -1;
    }
}
