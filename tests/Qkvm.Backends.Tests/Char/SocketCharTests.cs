using System.Net.Sockets;
using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Tests.Char;

/// <summary>A socket backend against real clients, on the real event loop.</summary>
public sealed class SocketCharTests : IDisposable
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    readonly MachineLock _lock = new();
    readonly EventLoop _loop;
    readonly Thread _thread;
    SocketChar? _server;
    readonly string _path = Path.Combine(Path.GetTempPath(), $"qkvm-test-{Guid.NewGuid():N}.sock");

    public SocketCharTests()
    {
        _loop = new EventLoop(_lock.Run);
        _thread = new Thread(_loop.Run);
        _thread.Start();
    }

    public void Dispose()
    {
        using (_lock.Hold()) _server?.Dispose();
        _loop.Stop();
        _thread.Join();
        _loop.Dispose();
    }

    [Fact]
    public void Clients_come_one_after_another_and_bytes_pass_both_ways()
    {
        var echo = new Echo();
        SocketChar server = Server(telnet: false);
        using (_lock.Hold()) echo.Attach(server);
        for (int i = 0; i < 3; i++)
        {
            using Socket client = Client();
            client.Send(Encoding.ASCII.GetBytes($"hello {i}"));
            Assert.Equal($"hello {i}", Receive(client, 7));
        }
    }

    [Fact]
    public void A_second_client_waits_for_the_first_to_leave()
    {
        var echo = new Echo();
        SocketChar server = Server(telnet: false);
        using (_lock.Hold()) echo.Attach(server);
        Socket first = Client();
        first.Send("a"u8);
        Assert.Equal("a", Receive(first, 1));
        using Socket second = Client();
        second.Send("b"u8);
        first.Dispose();
        Assert.Equal("b", Receive(second, 1));
    }

    [Fact]
    public void A_client_that_does_not_read_bounds_what_is_kept()
    {
        var echo = new Echo();
        SocketChar server = Server(telnet: false);
        using (_lock.Hold()) echo.Attach(server);
        using Socket client = Client();
        client.Send("x"u8);
        Receive(client, 1);
        int accepted = 0;
        using (_lock.Hold())
            for (int i = 0; i < 1000; i++) accepted += server.Write(new byte[65536]);
        Assert.InRange(accepted, 65536, 16 << 20);
    }

    [Fact]
    public void A_telnet_client_is_greeted_and_its_255_is_doubled()
    {
        SocketChar server = Server(telnet: true);
        using (_lock.Hold()) new Echo().Attach(server);
        using Socket client = Client();
        Assert.Equal(Encoding.Latin1.GetString(Telnet.Greeting), Receive(client, Telnet.Greeting.Length));
        using (_lock.Hold()) server.Write([1, 255, 2]);
        Assert.Equal("\u0001\u00FF\u00FF\u0002", Receive(client, 4));
        client.Send([255, 251, 31]);                               // WILL window size: DONT
        Assert.Equal("\u00FF\u00FE\u001F", Receive(client, 3));
    }

    [Fact]
    public void A_busy_address_names_the_option()
    {
        SocketChar server = Server(telnet: false);
        var error = Assert.Throws<ConfigurationException>(() => { Server(telnet: false); });
        Assert.StartsWith("-serial unix:x: cannot listen on ", error.Message);
    }

    [Fact]
    public void A_stale_socket_file_is_taken_over()
    {
        using (var dead = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
            dead.Bind(new UnixDomainSocketEndPoint(_path));
        SocketChar server = Server(telnet: false);
        using Socket client = Client();
        Assert.True(client.Connected);
    }

    SocketChar Server(bool telnet)
    {
        using (_lock.Hold())
            return _server =
                new SocketChar("c", new SocketOptions(_path, "", 0, Server: true, Wait: false, Telnet: telnet), _loop,
                "-serial unix:x");
    }

    Socket Client()
    {
        var client =
            new Socket(AddressFamily.Unix, SocketType.Stream,
            ProtocolType.Unspecified) { ReceiveTimeout = (int)Patience.TotalMilliseconds };
        client.Connect(new UnixDomainSocketEndPoint(_path));
        return client;
    }

    static string Receive(Socket client, int count)
    {
        var data = new byte[count];
        int have = 0;
        while (have < count)
        {
            int n = client.Receive(data, have, count - have, SocketFlags.None);
            if (n == 0) break;
            have += n;
        }
        return Encoding.Latin1.GetString(data, 0, have);
    }

    sealed class Echo : ICharFrontend
    {
        ICharBackend? _backend;

        public void Attach(ICharBackend backend)
        {
            _backend = backend;
            backend.Connect(this);
        }

        public int Room => 64;
        public void Receive(ReadOnlySpan<byte> data) => _backend!.Write(data);
    }
}
