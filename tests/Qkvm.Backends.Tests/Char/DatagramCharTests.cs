using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Char;
using Qkvm.Core.Char;

namespace Qkvm.Backends.Tests.Char;

/// <summary>udp, and the names of UNIX sockets.</summary>
public sealed class DatagramCharTests : IDisposable
{
    readonly CharBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Datagrams_come_and_go_with_one_other_end_alone()
    {
        using UdpClient remote = Udp(), stranger = Udp();
        int port = ((IPEndPoint)remote.Client.LocalEndPoint!).Port, own = FreePort();
        ICharBackend backend =
            _bench.Open(UdpChar.Model, $"host=127.0.0.1,port={port},localaddr=127.0.0.1,localport={own}");
        Assert.Equal("udp", backend.Description);
        stranger.Send("no"u8, new IPEndPoint(IPAddress.Loopback, own));
        remote.Send([], new IPEndPoint(IPAddress.Loopback, own));      // an empty one ends nothing
        var large = new byte[1000];
        new Random(1).NextBytes(large);
        remote.Send(large, new IPEndPoint(IPAddress.Loopback, own));
        var got = new List<byte>();
        while (got.Count < large.Length) got.AddRange(Receive(remote));
        Assert.Equal(large, got);
    }

    [Fact]
    public void Nobody_at_the_other_end_is_no_error()
    {
        int port = FreePort(), own = FreePort();
        ICharBackend backend =
            _bench.Open(UdpChar.Model, $"host=127.0.0.1,port={port},localaddr=127.0.0.1,localport={own}");
        for (int i = 0; i < 100; i++) _bench.Locked(() => Assert.Equal(1, backend.Write("x"u8)));
        Assert.True(backend.IsOpen);
        using var remote = new UdpClient(new IPEndPoint(IPAddress.Loopback, port));
        remote.Client.ReceiveTimeout = 30_000;
        remote.Send("late"u8, new IPEndPoint(IPAddress.Loopback, own));
        Assert.Equal("late"u8.ToArray(), Receive(remote));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_name_without_a_file_is_found_by_others(bool tight)
    {
        string name = $"qkvm-{Guid.NewGuid():N}";
        ICharBackend server = _bench.Open(SocketChar.Model,
            $"path={name},abstract=on,tight={(tight ? "on" : "off")},server=on,wait=off");
        Assert.Equal($"disconnected:unix:{name},abstract=on{(tight ? ",tight=on" : "")},server=on", server.Description);
        Assert.False(File.Exists(name));
        string full = $"\0{name}".PadRight(tight ? 0 : 108, '\0');
        using var client = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        client.ReceiveTimeout = 30_000;
        client.Connect(new UnixDomainSocketEndPoint(full));
        client.Send("hi"u8);
        Assert.Equal("hi"u8.ToArray(), CharBench.Receive(client, 2));
    }

    [Theory]
    [InlineData("path=/x,reconnect=1,reconnect-ms=5", "reconnect= and reconnect-ms= say the same; give one of them")]
    [InlineData("path=/x,server=on,wait=off,reconnect-ms=5", "reconnect= is of a client; leave it out beside " +
        "server=on")]
    [InlineData("path=/x,wait=off", "wait= is of a server; leave it out, or give server=on")]
    public void What_does_not_fit_is_refused(string options, string message) => Assert.Equal(
        $"-chardev socket: {message}",
        Assert.Throws<ConfigurationException>(() => _bench.Open(SocketChar.Model, options)).Message);

    [Fact]
    public void A_client_comes_back_after_milliseconds()
    {
        _bench.Open(SocketChar.Model, $"path={_bench.Path},reconnect-ms=20");
        for (int i = 0; i < 2; i++)
        {
            using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            File.Delete(_bench.Path);
            listener.Bind(new UnixDomainSocketEndPoint(_bench.Path));
            listener.Listen(1);
            using Socket client = listener.Accept();
            client.ReceiveTimeout = 30_000;
            client.Send("hi"u8);
            Assert.Equal("hi"u8.ToArray(), CharBench.Receive(client, 2));
        }
        File.Delete(_bench.Path);
    }

    static UdpClient Udp()
    {
        var client = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        client.Client.ReceiveTimeout = 30_000;
        return client;
    }

    static int FreePort()
    {
        using UdpClient probe = Udp();
        return ((IPEndPoint)probe.Client.LocalEndPoint!).Port;
    }

    static byte[] Receive(UdpClient client)
    {
        IPEndPoint? from = null;
        return client.Receive(ref from);
    }
}
