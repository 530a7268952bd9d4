using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.Sockets;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using static Qkvm.Backends.Tests.Net.TestCard;

namespace Qkvm.Backends.Tests.Net.Sockets;

public sealed class DatagramNetTests : IDisposable
{
    readonly TestLoop _loop = new();
    readonly string _folder = Directory.CreateTempSubdirectory("net").FullName;
    readonly Socket _peer = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) 
        { ReceiveTimeout = 30_000 };

    public DatagramNetTests() => _peer.Bind(new IPEndPoint(IPAddress.Loopback, 0));

    public void Dispose()
    {
        _peer.Dispose();
        _loop.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void Each_datagram_is_a_frame()
    {
        using DatagramNet net = Udp(out int port);
        var card = new TestCard(net, _loop);
        card.Send(Frame(1, 1514));
        Assert.Equal(Frame(1, 1514), Receive());
        card.Send(Frame(2, 20));
        Assert.Equal([.. Frame(2, 20), .. new byte[40]], Receive());
        Send([], port);                                            // none of these is a frame
        Send(new byte[13], port);
        Send(Frame(3, 60_000), port);
        Assert.Equal(Frame(3, 60_000), card.Next());
        Assert.Equal(2, net.Dropped);
    }

    [Fact]
    public void A_peer_that_is_not_there_does_no_harm()
    {
        using DatagramNet net = Udp(out int port);
        var card = new TestCard(net, _loop);
        var peer = (IPEndPoint)_peer.LocalEndPoint!;
        _peer.Close();
        for (byte i = 0; i < 10; i++) card.Send(Frame(i));
        using var again = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        again.Bind(peer);
        again.SendTo(Frame(5), new IPEndPoint(IPAddress.Loopback, port));
        Assert.Equal(Frame(5), card.Next());
        card.Send(new byte[66_000]);                               // more than a datagram carries
        Assert.Equal(1, net.Dropped);
    }

    [Fact]
    public void A_card_without_room_gets_its_frames_when_it_has_room_again()
    {
        using DatagramNet net = Udp(out int port);
        var card = new TestCard(net, _loop) { Refuses = true };
        for (byte i = 0; i < 20; i++) Send(Frame(i), port);
        _loop.Do(() => { });
        card.Refuses = false;
        card.Queue.Resume();
        for (byte i = 0; i < 20; i++) Assert.Equal(Frame(i), card.Next());
    }

    [Fact]
    public void Unix_sockets_carry_frames_both_ways()
    {
        var one = new UnixAddress(Path.Combine(_folder, "one"));
        var other = new UnixAddress(Path.Combine(_folder, "other"));
        using (var first = new DatagramNet("a", "dgram", DatagramSocket.Open(one, other), ""))
        using (var second = new DatagramNet("b", "dgram", DatagramSocket.Open(other, one), ""))
        {
            var a = new TestCard(first, _loop);
            var b = new TestCard(second, _loop);
            a.Send(Frame(1));
            Assert.Equal(Frame(1), b.Next());
            b.Send(Frame(2));
            Assert.Equal(Frame(2), a.Next());
        }
        _loop.Do(() => { });
        Assert.Empty(Directory.GetFiles(_folder));
    }

    [Fact]
    public void A_group_reaches_all_its_members()
    {
        var group = new InternetAddress("239.7.7.7", 0);
        using DatagramSocket probe = DatagramSocket.Open(new InternetAddress("127.0.0.1", 0),
            new InternetAddress("127.0.0.1", 9));
        group = group with { Port = PortOf(probe) };
        using var first = new DatagramNet("a", "dgram", DatagramSocket.Join(group, IPAddress.Loopback), "");
        using var second = new DatagramNet("b", "dgram", DatagramSocket.Join(group, IPAddress.Loopback), "");
        var a = new TestCard(first, _loop);
        var b = new TestCard(second, _loop);
        a.Send(Frame(1));
        Assert.Equal(Frame(1), b.Next());
        b.Send(Frame(2));
        Assert.Equal(Frame(1), a.Next());                          // its own, too, as QEMU has it
        Assert.Equal(Frame(2), a.Next());
    }

    [Fact]
    public void A_port_in_use_is_an_error()
    {
        using DatagramNet net = Udp(out int port);
        var error = Assert.Throws<HostException>(() => DatagramSocket.Open(new InternetAddress("127.0.0.1", port),
            new InternetAddress("127.0.0.1", 9)));
        Assert.Equal(Libc.EAddrInUse, error.Errno);
    }

    DatagramNet Udp(out int port)
    {
        DatagramSocket socket = DatagramSocket.Open(new InternetAddress("127.0.0.1", 0),
            new InternetAddress("127.0.0.1", ((IPEndPoint)_peer.LocalEndPoint!).Port));
        port = PortOf(socket);
        return new DatagramNet("n", "dgram", socket, "udp");
    }

    static int PortOf(DatagramSocket socket)
    {
        using var same = new Socket(new SafeSocketHandle(socket.Fd, ownsHandle: false));
        return ((IPEndPoint)same.LocalEndPoint!).Port;
    }

    void Send(byte[] data, int port) => _peer.SendTo(data, new IPEndPoint(IPAddress.Loopback, port));

    byte[] Receive()
    {
        var data = new byte[70_000];
        return data[.._peer.Receive(data)];
    }
}
