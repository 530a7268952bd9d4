using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.Sockets;
using Qkvm.Core.Net;
using Qkvm.Host.Sockets;
using static Qkvm.Backends.Tests.Net.TestCard;

namespace Qkvm.Backends.Tests.Net.Sockets;

public sealed class StreamNetTests : IDisposable
{
    const int Largest = 4096 + 65536;

    readonly TestLoop _loop = new();
    readonly string _folder = Directory.CreateTempSubdirectory("net").FullName;

    public void Dispose()
    {
        _loop.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void Two_machines_exchange_frames_of_all_lengths()
    {
        using StreamNet server = Server(out int port);
        using StreamNet client = Client(port);
        var one = new TestCard(server, _loop);
        var other = new TestCard(client, _loop);
        _loop.Await(() => server.IsConnected);
        foreach (int length in (int[])[60, 61, 1514, 9018, 65535, Largest])
        {
            one.Send(Frame(1, length));
            Assert.Equal(Frame(1, length), other.Next());
            other.Send(Frame(2, length));
            Assert.Equal(Frame(2, length), one.Next());
        }
        Assert.StartsWith("index=0,type=socket,socket: connection from 127.0.0.1:", _loop.Do(() => server.Description));
        Assert.Equal($"index=0,type=socket,socket: connect to 127.0.0.1:{port}", client.Description);
    }

    [Fact]
    public void Frames_are_their_length_and_their_bytes_and_short_ones_are_filled_up()
    {
        using StreamNet server = Server(out int port);
        var card = new TestCard(server, _loop);
        using Socket peer = Connect(port);
        _loop.Await(() => server.IsConnected);
        card.Send(Frame(7, 20));
        Assert.Equal([0, 0, 0, 60, .. Frame(7, 20), .. new byte[40]], Read(peer, 64));
        byte[] two = [.. Framed(Frame(1)), .. Framed(Frame(2, 14))];
        foreach (byte one in two) peer.Send([one]);                // in the smallest pieces
        Assert.Equal(Frame(1), card.Next());
        Assert.Equal(Frame(2, 14), card.Next());
        peer.Send([.. Framed([]), .. Framed(new byte[13]), .. Framed(Frame(3))]);
        Assert.Equal(Frame(3), card.Next());                       // what is too short for a frame is none
        Assert.Equal(2, server.Dropped);
    }

    [Theory]
    [InlineData(Largest + 1)]
    [InlineData(-1)]
    [InlineData(int.MaxValue)]
    [InlineData(0x47455420)]                                       // "GET "
    public void A_length_that_no_frame_has_ends_the_connection_and_the_next_one_is_taken(int length)
    {
        using StreamNet server = Server(out int port);
        var card = new TestCard(server, _loop);
        using Socket bad = Connect(port), good = Connect(port);
        var wrong = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(wrong, length);
        bad.Send([.. Framed(Frame(1)), .. wrong]);
        Assert.Equal(Frame(1), card.Next());
        Assert.Equal(0, Receive(bad, new byte[1]));
        good.Send(Framed(Frame(2)));
        Assert.Equal(Frame(2), card.Next());
    }

    [Fact]
    public void A_peer_that_does_not_read_costs_frames_and_nobody_waits()
    {
        using StreamNet server = Server(out int port);
        var card = new TestCard(server, _loop);
        using Socket peer = Connect(port);
        _loop.Await(() => server.IsConnected);
        int sent = 0;
        while (server.Dropped < 100)
        {
            card.Send(Frame((byte)sent, 60000));
            Assert.True(++sent < 100_000);
        }
        // What it reads then is whole frames in order.
        int number = -1;
        for (int i = 0; i < sent - 100; i++)
        {
            Assert.Equal(60000, BinaryPrimitives.ReadInt32BigEndian(Read(peer, 4)));
            byte[] frame = Read(peer, 60000);
            Assert.Equal(Frame(frame[0], 60000), frame);
            Assert.Equal(number = (byte)(number + 1), frame[0]);
            if (number == 255) number = -1;
            if (peer.Available == 0) break;
        }
        Assert.True(number >= 0);
    }

    [Fact]
    public void A_card_without_room_gets_its_frames_when_it_has_room_again()
    {
        using StreamNet server = Server(out int port);
        var card = new TestCard(server, _loop) { Refuses = true };
        using Socket peer = Connect(port);
        for (byte i = 0; i < 200; i++) peer.Send(Framed(Frame(i, 1000)));
        _loop.Await(() => server.IsConnected);
        _loop.Do(() => { });
        Assert.Equal(0, card.Waiting);
        card.Refuses = false;
        card.Queue.Resume();
        for (byte i = 0; i < 200; i++) Assert.Equal(Frame(i, 1000), card.Next());
    }

    [Fact]
    public void A_client_comes_back_when_the_other_end_does()
    {
        string path = Path.Combine(_folder, "s");
        using StreamNet client = Make(new StreamNetOptions("c", "stream", new UnixAddress(path), false,
            TimeSpan.FromMilliseconds(20)));
        var card = new TestCard(client, _loop);
        card.Send(Frame(9));                                       // to nobody
        for (byte i = 0; i < 3; i++)
        {
            using StreamNet server = Make(new StreamNetOptions("s", "stream", new UnixAddress(path), true));
            var other = new TestCard(server, _loop);
            _loop.Await(() => client.IsConnected && server.IsConnected);
            Assert.Equal($"index=0,type=stream,connect to {path}", _loop.Do(() => client.Description));
            card.Send(Frame(i));
            Assert.Equal(Frame(i), other.Next());
            _loop.Do(server.Dispose);
            _loop.Await(() => !client.IsConnected);
        }
    }

    [Fact]
    public void Another_card_takes_the_connection_over()
    {
        using StreamNet server = Server(out int port);
        var first = new TestCard(server, _loop);
        using Socket peer = Connect(port);
        peer.Send(Framed(Frame(1)));
        Assert.Equal(Frame(1), first.Next());
        _loop.Do(first.Queue.Dispose);
        peer.Send(Framed(Frame(2)));
        first.Send(Frame(3));                                      // of nobody any more
        var second = new TestCard(server, _loop);
        Assert.Equal(Frame(2), second.Next());
        second.Send(Frame(4));
        Assert.Equal(Framed(Frame(4)), Read(peer, 104));
        Assert.Equal(0, first.Waiting);
    }

    [Fact]
    public void What_cannot_be_reached_or_had_is_said()
    {
        using StreamNet server = Server(out int port);
        var error = Assert.Throws<ConfigurationException>(() => Make(new StreamNetOptions("n", "stream",
            new InternetAddress("127.0.0.1", port), true)));
        Assert.Equal($"-netdev x: cannot listen on 127.0.0.1:{port}: Address already in use; another program listens "
            + "there: choose another address", error.Message);
        error = Assert.Throws<ConfigurationException>(() => Make(new StreamNetOptions("n", "socket",
            new UnixAddress(Path.Combine(_folder, "none")), false)));
        Assert.EndsWith("No such file or directory; start the other end first, or use -netdev stream,…,reconnect=1",
            error.Message);
    }

    StreamNet Make(StreamNetOptions options) => _loop.Do(() => new StreamNet("-netdev x", options, _loop.Loop));

    StreamNet Server(out int port)
    {
        StreamNet server = Make(new StreamNetOptions("s", "socket", new InternetAddress("127.0.0.1", 0), true));
        port = int.Parse(server.Names[0].Service);
        return server;
    }

    StreamNet Client(int port) =>
        Make(new StreamNetOptions("c", "socket", new InternetAddress("127.0.0.1", port), false));

    static Socket Connect(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true,
            ReceiveTimeout = 30_000 };
        socket.Connect(IPAddress.Loopback, port);
        return socket;
    }

    static byte[] Framed(byte[] frame)
    {
        var length = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(length, frame.Length);
        return [.. length, .. frame];
    }

    static byte[] Read(Socket socket, int length)
    {
        var data = new byte[length];
        for (int at = 0; at < length;)
        {
            int n = socket.Receive(data.AsSpan(at));
            Assert.NotEqual(0, n);
            at += n;
        }
        return data;
    }

    /// <summary>0 also for a reset, which unread bytes make of an end.</summary>
    static int Receive(Socket socket, byte[] data)
    {
        try { return socket.Receive(data); }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset) { return 0; }
    }
}
