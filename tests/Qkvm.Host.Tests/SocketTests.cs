using System.Net;
using System.Net.Sockets;
using System.Text;
using Qkvm.Host.Sockets;
using SocketAddress = Qkvm.Host.Sockets.SocketAddress;

namespace Qkvm.Host.Tests;

/// <summary>Listeners and connections on the real event loop, against clients of the class library.</summary>
public sealed class SocketTests : IDisposable
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    readonly object _lock = new();
    readonly EventLoop _loop;
    readonly Thread _thread;
    readonly string _path = Path.Combine(Path.GetTempPath(), $"qkvm-test-{Guid.NewGuid():N}.sock");

    public SocketTests()
    {
        _loop = new EventLoop(action => { lock (_lock) action(); });
        _thread = new Thread(_loop.Run);
        _thread.Start();
    }

    public void Dispose()
    {
        _loop.Stop();
        _thread.Join();
        _loop.Dispose();
    }

    [Theory]
    [InlineData("", null, null, "::")] [InlineData("", true, null, "0.0.0.0")] [InlineData("", null, true, "::")]
    [InlineData("", null, false, "0.0.0.0")]
    [InlineData("localhost", true, null, "127.0.0.1")] [InlineData("127.0.0.1", null, null, "127.0.0.1")]
    public void A_listener_takes_the_families_that_it_is_told(string host, bool? ipv4, bool? ipv6, string first)
    {
        // the host has no IPv6: there the wildcard is 0.0.0.0
        if (first == "::" && !Socket.OSSupportsIPv6) return;
        using Listener listener = Listen(new InternetAddress(host, 0, null, ipv4, ipv6), out _);
        Assert.Equal(first, Assert.Single(listener.Names).Host);
    }

    [Fact]
    public void A_wildcard_takes_clients_of_both_families()
    {
        using Listener listener = Listen(new InternetAddress("", 0), out List<User> users);
        int port = int.Parse(listener.Names[0].Service);
        using var four = new TcpClient(AddressFamily.InterNetwork);
        four.Connect(IPAddress.Loopback, port);
        Eventually(() => users.Count == 1);
        if (!Socket.OSSupportsIPv6) return;
        using var six = new TcpClient(AddressFamily.InterNetworkV6);
        six.Connect(IPAddress.IPv6Loopback, port);
        Eventually(() => users.Count == 2);
    }

    [Fact]
    public void Of_a_range_the_first_free_port_is_taken_and_a_busy_one_is_named()
    {
        using Listener taken = Listen(new InternetAddress("127.0.0.1", 0), out _);
        int port = int.Parse(taken.Names[0].Service);
        using Listener next = Listen(new InternetAddress("127.0.0.1", port, port + 50), out _);
        Assert.InRange(int.Parse(next.Names[0].Service), port + 1, port + 50);
        var error = Assert.Throws<HostException>(() => Listen(new InternetAddress("127.0.0.1", port), out _));
        Assert.Equal(Libc.EAddrInUse, error.Errno);
        Assert.Contains($"127.0.0.1:{port}", error.Message);
    }

    [Fact]
    public void What_one_end_does_not_read_is_bounded_and_room_is_told()
    {
        using Listener listener = Listen(new UnixAddress(_path), out List<User> users);
        using Socket client = Client();
        Eventually(() => users.Count == 1);
        User user = users[0];
        int accepted = 0;
        lock (_lock)
            for (int i = 0; i < 1000; i++) accepted += user.Connection.Write(new byte[65536]);
        Assert.InRange(accepted, 65536, 4 << 20);
        lock (_lock) Assert.Equal(Connection.DefaultOutputLimit, user.Connection.Pending);
        var buffer = new byte[65536];
        for (int read = 0; read < accepted;) read += client.Receive(buffer);
        Eventually(() => user is { Told: 1, Connection.Pending: 0 });
    }

    [Fact]
    public void What_the_user_has_no_room_for_stays_in_the_kernel()
    {
        using Listener listener = Listen(new UnixAddress(_path), out List<User> users);
        using Socket client = Client();
        client.Blocking = false;
        Eventually(() => users.Count == 1);
        lock (_lock) users[0].Room = 10;
        int sent = 0;
        var chunk = new byte[65536];
        for (int idle = 0; idle < 20; Thread.Sleep(5))             // until the kernel's buffer is full and stays so
        {
            int n = client.Send(chunk, SocketFlags.None, out SocketError error);
            (sent, idle) = error == SocketError.Success ? (sent + n, 0) : (sent, idle + 1);
        }
        Assert.Equal(10, users[0].Received.Length);
        lock (_lock)
        {
            users[0].Room = int.MaxValue;
            users[0].Connection.AcceptInput();
        }
        Eventually(() => users[0].Received.Length == sent);
    }

    [Fact]
    public void Descriptors_come_with_bytes_and_a_flood_of_them_is_closed()
    {
        using Listener listener = Listen(new UnixAddress(_path), out List<User> users);
        using StreamSocket client = Connector.Connect(new UnixAddress(_path));
        Eventually(() => users.Count == 1);
        string file = Path.GetTempFileName();
        File.WriteAllText(file, "content");
        using FileStream opened = File.OpenRead(file);
        int before = Directory.GetFiles("/proc/self/fd").Length;
        for (int i = 0; i < 200; i++)
        {
            Assert.Equal(1, client.WriteWith((int)opened.SafeFileHandle.DangerousGetHandle(), "x"u8));
            int count = i + 1;
            Eventually(() => users[0].Received.Length == count);
        }
        Assert.InRange(Directory.GetFiles("/proc/self/fd").Length, 0, before + 100); // other tests open and close some
        int passed;
        lock (_lock) passed = users[0].Connection.Transport.TakeDescriptor();
        Assert.Equal(file, new FileInfo($"/proc/self/fd/{passed}").ResolveLinkTarget(false)!.FullName);
        lock (_lock) Assert.Equal(-1, users[0].Connection.Transport.TakeDescriptor());
        Libc.close(passed);
        File.Delete(file);
    }

    [Fact]
    public void Inherited_sockets_listen_and_connect_and_other_files_are_refused()
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(_path));
        socket.Listen();
        using Listener listener = Listen(new DescriptorAddress(Libc.dup((int)socket.Handle)), out List<User> users);
        using Socket client = Client();
        client.Send("hello"u8);
        Eventually(() => users.Count == 1 && users[0].Received.ToString() == "hello");
        Assert.Throws<HostException>(() => Connector.Connect(new DescriptorAddress((int)socket.Handle)));
        using StreamSocket inherited = Connector.Connect(new DescriptorAddress(Libc.dup((int)client.Handle)));
        Assert.Equal(2, inherited.Write("ha"u8));
        Eventually(() => users[0].Received.ToString() == "helloha");
        using FileStream file = File.OpenRead("/dev/null");
        Assert.Throws<HostException>(() =>
            Listen(new DescriptorAddress((int)file.SafeFileHandle.DangerousGetHandle()), out _));
    }

    [Fact]
    public void A_lost_connection_is_made_again()
    {
        User? user = null;
        Connector connector = null!;
        int failures = 0;
        connector = new Connector(new UnixAddress(_path), _loop, TimeSpan.FromMilliseconds(20),
            socket =>
                { user = new User(); user.Connection = new Connection(socket, _loop, user);
                user.OnClosed = () => connector.Lost(); user.Connection.AcceptInput(); },
            _ => failures++);
        lock (_lock) connector.Start();
        Eventually(() => failures > 1);                            // nobody listens yet
        for (int round = 0; round < 3; round++)
        {
            using var server = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            server.Bind(new UnixDomainSocketEndPoint(_path));
            server.Listen();
            using Socket accepted = server.Accept();
            accepted.Send("hi"u8);
            Eventually(() => user?.Received.ToString() == "hi");
            File.Delete(_path);
        }
        lock (_lock) connector.Dispose();
    }

    [Fact]
    public void A_socket_file_that_nobody_serves_is_replaced_and_another_file_is_not()
    {
        using (var dead = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
            dead.Bind(new UnixDomainSocketEndPoint(_path));
        Listen(new UnixAddress(_path), out _).Dispose();
        Assert.False(File.Exists(_path));
        File.WriteAllText(_path, "precious");
        Assert.Throws<HostException>(() => Listen(new UnixAddress(_path), out _));
        Assert.Equal("precious", File.ReadAllText(_path));
        File.Delete(_path);
    }

    Listener Listen(SocketAddress address, out List<User> users)
    {
        var taken = users = [];
        lock (_lock)
        {
            var listener = new Listener(address, _loop, socket =>
            {
                var user = new User();
                user.Connection = new Connection(socket, _loop, user);
                user.Connection.AcceptInput();
                taken.Add(user);
            });
            listener.Start();
            return listener;
        }
    }

    Socket Client()
    {
        var client =
            new Socket(AddressFamily.Unix, SocketType.Stream,
            ProtocolType.Unspecified) { ReceiveTimeout = (int)Patience.TotalMilliseconds };
        client.Connect(new UnixDomainSocketEndPoint(_path));
        return client;
    }

    void Eventually(Func<bool> condition) =>
        Assert.True(SpinWait.SpinUntil(() => { Thread.Sleep(1); lock (_lock) return condition(); }, Patience),
            "it never happened");

    sealed class User : IConnectionUser
    {
        public Connection Connection { get; set; } = null!;
        public StringBuilder Received { get; } = new();
        public int Room { get; set; } = int.MaxValue;
        public int Told { get; private set; }
        public Action OnClosed { get; set; } = () => { };

        int IConnectionUser.Room => Room == int.MaxValue ? Room : Math.Max(0, Room - Received.Length);
        public void Receive(Span<byte> data) => Received.Append(Encoding.Latin1.GetString(data));
        public void Writable() => Told++;
        public void Closed() => OnClosed();
    }
}
