using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Core.Char;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tests.Char;

/// <summary>websocket=on against .NET's client, and against clients that mean harm.</summary>
public sealed class WebSocketTests : IDisposable
{
    const string Request = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    readonly CharBench _bench = new();

    public WebSocketTests() => _bench.Open(SocketChar.Model, $"path={_bench.Path},server=on,wait=off,websocket=on");

    public void Dispose() => _bench.Dispose();

    /// <summary>RFC 6455, section 1.3, has this key and what belongs to it.</summary>
    [Theory]
    [InlineData("", "")]
    [InlineData("Sec-WebSocket-Protocol: chat, binary\r\n", "Sec-WebSocket-Protocol: binary\r\n")]
    public void The_handshake_is_answered(string more, string answered)
    {
        using Socket client = _bench.Client();
        client.Send(Encoding.ASCII.GetBytes($"{Request}{more}\r\n"));
        string expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + $"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{answered}\r\n";
        Assert.Equal(expected, Encoding.ASCII.GetString(CharBench.Receive(client, expected.Length)));
    }

    [Theory]
    [InlineData("POST / HTTP/1.1\r\nHost: h\r\n\r\n", "405")]
    [InlineData("GET / HTTP/1.0\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "400")]
    [InlineData("\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "426")]
    [InlineData(Request + "Sec-WebSocket-Protocol: chat\r\n\r\n", "400")]
    public void What_is_no_handshake_is_refused_and_closed(string request, string status)
    {
        using Socket client = _bench.Client();
        client.Send(Encoding.ASCII.GetBytes(request));
        Assert.StartsWith($"HTTP/1.1 {status} ", Encoding.ASCII.GetString(CharBench.Receive(client, 1000)));
        Assert.DoesNotContain(CharEvent.Opened, _bench.Frontend.Events);
    }

    [Fact]
    public void A_request_without_an_end_is_cut_off()
    {
        using Socket client = _bench.Client();
        client.Send(new byte[8192]);
        Assert.StartsWith("HTTP/1.1 431 ", Encoding.ASCII.GetString(CharBench.Receive(client, 1000)));
    }

    /// <summary>More than any buffer holds, in fragments, comes back as it was.</summary>
    [Fact]
    public async Task Bytes_pass_both_ways_through_another_implementation()
    {
        using Socket client = Connected();
        using var stream = new NetworkStream(client);
        using var socket = WebSocket.CreateFromStream(stream, isServer: false, "binary", Timeout.InfiniteTimeSpan);
        var sent = new byte[300_000];
        new Random(1).NextBytes(sent);
        Task sending = SendAsync();
        var received = new byte[sent.Length];
        for (int have = 0; have < sent.Length;)
        {
            ValueWebSocketReceiveResult got = await socket.ReceiveAsync(received.AsMemory(have), default);
            Assert.Equal(WebSocketMessageType.Binary, got.MessageType);
            have += got.Count;
        }
        await sending;
        Assert.Equal(sent, received);
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, "bye", default);
        Assert.Equal(WebSocketCloseStatus.NormalClosure, socket.CloseStatus);

        async Task SendAsync()
        {
            for (int at = 0; at < sent.Length; at += 50_000)
                await socket.SendAsync(sent.AsMemory(at, 50_000), WebSocketMessageType.Binary, at == 250_000, default);
        }
    }

    [Theory]
    [InlineData("81 80 00000000", 1003)]                           // text
    [InlineData("82 01 61", 1002)]                                 // not masked
    [InlineData("80 80 00000000", 1002)]                           // continues nothing
    [InlineData("02 80 00000000 82 80 00000000", 1002)]            // begins within another
    [InlineData("C2 80 00000000", 1002)]                           // a reserved bit
    [InlineData("83 80 00000000", 1002)]                           // a reserved code
    [InlineData("09 80 00000000", 1002)]                           // a ping in pieces
    [InlineData("89 FE 0080 00000000", 1002)]                      // a long ping
    [InlineData("82 FF 8000000000000000 00000000", 1002)]          // longer than can be
    public void A_broken_frame_closes(string frame, int status)
    {
        using Socket client = Connected();
        client.Send(Convert.FromHexString(frame.Replace(" ", "")));
        Assert.Equal([0x88, 2, (byte)(status >> 8), (byte)status], CharBench.Receive(client, 1000));
    }

    [Fact]
    public void A_ping_is_answered_wherever_it_is_split()
    {
        using Socket client = Connected();
        // "ab" in one frame, "h" and "i" in two around a ping of "xy" with the mask 01 02 03 04
        byte[] sent = Convert.FromHexString("82820000000061620281000000006889820102030479" + "7B" + "80810000000069");
        foreach (byte b in sent) client.Send([b]);
        string got = "";                                           // in as many frames as reads were made
        for (int i = 0; i < 32 && !got.EndsWith('i'); i++)
            got += Encoding.Latin1.GetString(CharBench.Receive(client, 1));
        Assert.Contains("\u008A\u0002xy", got);
        Assert.Equal("abhi", string.Concat(got.Where(c => c is 'a' or 'b' or 'h' or 'i')));
    }

    /// <summary>Pongs that the client does not read are not kept.</summary>
    [Fact]
    public void A_flood_of_pings_is_bounded()
    {
        var inner = new Endless(Convert.FromHexString("8980" + "00000000"));
        var socket = new WebSocketTransport(inner, static () => { });
        inner.Script.Enqueue(Encoding.ASCII.GetBytes($"{Request}\r\n"));
        var buffer = new byte[16];
        for (int i = 0; i < 1000; i++) Assert.True(socket.Read(buffer) < 0);
        Assert.True(inner.Written > 0);
        inner.Room = 0;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++) Assert.True(socket.Read(buffer) < 0);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 100_000);
    }

    [Fact]
    public void Before_the_handshake_is_over_nobody_is_connected()
    {
        using Socket client = _bench.Client();
        client.Send("GET / HT"u8);
        ICharBackend server = _bench.Open(SocketChar.Model, "host=127.0.0.1,port=0,server=on,wait=off,websocket=on");
        Assert.False(server.IsOpen);
        Assert.Equal(5, server.Write(new byte[5]));
    }

    [Fact]
    public void Half_a_handshake_ends_and_the_next_client_is_served()
    {
        using var bench = new CharBench();
        var options = new SocketOptions(bench.Path, "", 0, Server: true, Wait: false, Telnet: false, WebSocket: true);
        bench.Open(loop => new SocketChar("c", options, loop, "-chardev socket",
            patience: TimeSpan.FromMilliseconds(200)));
        foreach (string start in new[] { "", "G", Request })
        {
            using Socket half = bench.Client();
            half.Send(Encoding.ASCII.GetBytes(start));
            Assert.Empty(CharBench.Receive(half, 1));              // hung up on
        }
        using Socket whole = bench.Client();
        whole.Send(Encoding.ASCII.GetBytes($"{Request}\r\n"));
        Assert.Equal("HTTP/1.1 101 ", Encoding.ASCII.GetString(CharBench.Receive(whole, 13)));
    }

    [Fact]
    public void A_client_cannot_be_one() => Assert.Contains("websocket=on is of a server",
        Assert.Throws<ConfigurationException>(() => _bench.Open(SocketChar.Model, "path=/x,websocket=on")).Message);

    Socket Connected()
    {
        Socket client = _bench.Client();
        client.Send(Encoding.ASCII.GetBytes($"{Request}\r\n"));
        var answer = new StringBuilder();
        while (!answer.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
            answer.Append((char)CharBench.Receive(client, 1)[0]);
        return client;
    }

    /// <summary>Gives a script, then the same again and again.</summary>
    sealed class Endless(byte[] again) : ITransport
    {
        public Queue<byte[]> Script { get; } = new();
        public int Room { get; set; } = int.MaxValue;
        public long Written { get; private set; }
        public int InputFd => -1;
        public int OutputFd => -1;

        public int Read(Span<byte> buffer)
        {
            byte[] data = Script.TryDequeue(out byte[]? next) ? next : again;
            data.CopyTo(buffer);
            return data.Length;
        }

        public int Write(ReadOnlySpan<byte> data)
        {
            int count = Math.Min(Room, data.Length);
            Written += count;
            return count > 0 || data.IsEmpty ? count : -11;
        }

        public void Dispose() { }
    }
}
