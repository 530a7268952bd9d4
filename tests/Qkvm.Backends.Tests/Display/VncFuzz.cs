using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Qkvm.Core.Display;
using Qkvm.Host.Sockets;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Display;

/// <summary>Viewers that make mistakes, read slowly or not at all, and hang up in the middle, over a plain connection,
/// TLS, a websocket and both. Memory stays bounded, nothing throws, and an honest viewer sees the screen.</summary>
sealed class VncFuzz : IDisposable
{
    const int Viewers = 150, MostMessages = 60;
    const long MostMemory = 600L << 20;                            // of the whole process, after a collection

    readonly string _folder = Directory.CreateTempSubdirectory("qkvm-fuzz-vnc-").FullName;
    readonly Random _random;
    readonly ViewerWords _words;
    readonly VncBench _plain, _secret;
    readonly List<(Socket Socket, Stream Stream)> _open = [];
    long _messages;

    VncFuzz(int seed)
    {
        _random = new Random(seed);
        _words = new ViewerWords(_random);
        TestCertificates.WriteAll(_folder);
        TimeSpan patience = TimeSpan.FromMilliseconds(500);
        OptionPair[] options = [new("websocket", "0"), new("power-control", "on"), new("lossy", "on")];
        _plain = new VncBench(300, 200, share: "ignore", address: "127.0.0.1:0,to=99", handshakeLimit: patience,
            options: options)
        {
            CanResize = true,
        };
        _secret = new VncBench(300, 200, share: "ignore", address: "127.0.0.1:0,to=99", handshakeLimit: patience,
            setUp: backends => backends.Objects["tls0"] = new TlsCredentials(_folder, isServer: true,
                verifiesPeer: false, password: null), options: [.. options, new("tls-creds", "tls0")]);
    }

    /// <summary>Until the time is over; each batch has servers and a seed of its own.</summary>
    public static void Run(int seed, TimeSpan time, Action<string> print)
    {
        var clock = Stopwatch.StartNew();
        long messages = 0, viewers = 0;
        for (; clock.Elapsed < time; seed++)
        {
            try
            {
                using var fuzz = new VncFuzz(seed);
                messages += fuzz.RunBatch();
                viewers += Viewers;
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
            }
        }
        print($"{viewers} viewers, {messages} messages, last seed {seed - 1}: nothing amiss");
    }

    public void Dispose()
    {
        foreach ((_, Stream stream) in _open) stream.Dispose();
        _plain.Dispose();
        _secret.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    long RunBatch()
    {
        for (int i = 0; i < Viewers; i++)
        {
            if (_random.Next(8) == 0) _plain.DrawEverything(i);
            if (_random.Next(8) == 0) _secret.DrawEverything(i);
            if (Connect() is { } viewer) Talk(viewer);
            if (_open.Count > 40) Leave(_random.Next(_open.Count));
        }
        while (_open.Count > 0) Leave(_open.Count - 1);
        Check(_plain, isSecret: false);
        Check(_secret, isSecret: true);
        long memory = GC.GetTotalMemory(true);
        if (memory > MostMemory) throw new InvalidOperationException($"{memory >> 20} MiB are in use");
        return _messages;
    }

    void Leave(int index)
    {
        _open[index].Stream.Dispose();
        _open.RemoveAt(index);
    }

    static Socket Dial(VncBench bench, bool isWeb)
    {
        EndPointInfo at = bench.Ask(bench.Server.Query).Servers.First(server => server.IsWebSocket == isWeb
            && server.Family == "ipv4");
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Connect(IPAddress.Loopback, int.Parse(at.Service));
        return socket;
    }

    /// <summary>One of the four ways, more or less as far as to the introduction.</summary>
    (Socket Socket, Stream Stream)? Connect()
    {
        bool isSecret = _random.Next(4) == 0, isWeb = _random.Next(3) == 0;
        Socket socket = Dial(isSecret ? _secret : _plain, isWeb);
        Stream stream = new NetworkStream(socket, ownsSocket: true) { ReadTimeout = 2000, WriteTimeout = 300 };
        try
        {
            if (isSecret && isWeb && _random.Next(6) > 0) stream = VncSecurityTests.Secured(stream, _folder);
            if (isWeb && _random.Next(8) > 0) stream = Upgraded(stream);
            if (isSecret && !isWeb && _random.Next(6) > 0)
            {
                stream.Write("RFB 003.008\n\u0013"u8);
                stream.Write(_words.Spoil([0, 2]));
                stream.Write(_words.Spoil([0, 0, 1, 4]));
                stream.ReadExactly(new byte[12 + 2 + 2 + 1 + 5 + 1]);
                stream = VncSecurityTests.Secured(stream, _folder);
                stream.Write(_words.Spoil([1]));
            }
            else stream.Write(_words.Introduction());
            _open.Add((socket, stream));
            return _open[^1];
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException
            or System.Security.Authentication.AuthenticationException)
        {
            stream.Dispose();                                      // it was hung up on
            return null;
        }
    }

    Stream Upgraded(Stream below)
    {
        below.Write(Encoding.ASCII.GetBytes("GET /vnc HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
            + "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
        return new Frames(below, _random);
    }

    void Talk((Socket Socket, Stream Stream) viewer)
    {
        int mistakes = _random.Next(3);                            // a third makes none, and gets far
        try
        {
            for (int i = _random.Next(MostMessages); i > 0; i--)
            {
                byte[] message = _words.Message();
                if (mistakes > 0) message = _words.Spoil(message);
                int cut = _random.Next(3) == 0 ? _random.Next(message.Length + 1) : message.Length;
                viewer.Stream.Write(message.AsSpan(0, cut));
                viewer.Stream.Write(message.AsSpan(cut));
                _messages++;
                if (_random.Next(3) == 0 && viewer.Socket.Available > 0)
                    _ = viewer.Stream.Read(new byte[_random.Next(1, 1 << 16)]);
            }
            viewer.Stream.Flush();
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException) { } // hung up on, or not listened to
    }

    void Check(VncBench bench, bool isSecret)
    {
        // Those that hung up may have said something that is yet to be read, such as a wish for another size.
        Assert.True(SpinWait.SpinUntil(() => bench.Ask(() => bench.Server.Query().Clients.Count) == 0, VncBench.Hang));
        bench.DrawEverything();
        using var viewer = new VncViewer(new NetworkStream(Dial(bench, isWeb: false), ownsSocket: true)
        {
            ReadTimeout = (int)VncBench.Hang.TotalMilliseconds,
        });
        if (isSecret)
        {
            viewer.Receive(12);
            viewer.Send([.. "RFB 003.008\n\u0013"u8, 0, 2, 0, 0, 1, 4]);
            viewer.Receive(2 + 2 + 1 + 5 + 1);
            viewer.Layer(stream => VncSecurityTests.Secured(stream, _folder));
            viewer.Dword();
            viewer.Begin();
        }
        else viewer.Handshake(8);
        viewer.SetEncodings(-223, 0);
        viewer.RequestAndRead(incremental: false);
        if (viewer.Rectangles[0].Encoding == -223) viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    /// <summary>Masked frames of a browser, with mistakes. RFC 6455, section 5.2.</summary>
    sealed class Frames(Stream below, Random random) : Stream
    {
        public override void Write(ReadOnlySpan<byte> data)
        {
            int length = random.Next(40) == 0 ? random.Next(70_000) : data.Length;
            byte first = (byte)(random.Next(20) == 0 ? random.Next(256) : 0x82);
            byte[] size = random.Next(40) == 0 ? [0xFF, 0x7F, .. new byte[7]]
                : length < 126 ? [(byte)(0x80 | length)]
                : length < 65536 ? [0xFE, (byte)(length >> 8), (byte)length]
                : [0xFF, 0, 0, 0, 0, 0, (byte)(length >> 16), (byte)(length >> 8), (byte)length];
            below.Write([first, .. size, 0, 0, 0, 0, .. data]);    // a mask of nothing
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));
        public override int Read(byte[] buffer, int offset, int count) => below.Read(buffer, offset, count);
        public override void Flush() => below.Flush();
        protected override void Dispose(bool disposing) => below.Dispose();
        public override bool CanRead => true;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => throw new NotSupportedException();
        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
