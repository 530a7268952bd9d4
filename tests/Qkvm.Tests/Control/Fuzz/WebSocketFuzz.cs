using System.Text;
using Qkvm.Host.Sockets;

namespace Qkvm.Tests.Control.Fuzz;

/// <summary>Websockets whose clients send mistakes: bytes come out or it ends, and it never waits for itself.</summary>
static class WebSocketFuzz
{
    const string Request = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    public static void Run(Random random, FuzzInput input)
    {
        var source = new Source(random);
        bool isOpen = false;
        var socket = new WebSocketTransport(source, () => isOpen = true);
        byte[] first = Encoding.ASCII.GetBytes(Request);
        if (random.Next(4) == 0) first[random.Next(first.Length)] = (byte)random.Next(256);
        source.Send(first);
        var buffer = new byte[1 + random.Next(300)];
        for (int i = 0; i < 50; i++)
        {
            if (isOpen) source.Send(input.Frames());
            int n = -1;
            for (int reads = 0; (source.HasMore || socket.HasInput) && n != 0; reads++)
            {
                n = socket.Read(buffer);
                Assert.InRange(n, -200, buffer.Length);
                Assert.True(reads < 200_000, "it reads for ever");
            }
            if (n == 0) return;
            if (random.Next(3) == 0) Assert.InRange(socket.Write(buffer), -200, buffer.Length);
        }
    }

    sealed class Source(Random random) : ITransport
    {
        readonly Queue<byte> _bytes = new();

        public bool HasMore => _bytes.Count > 0;
        public int InputFd => -1;
        public int OutputFd => -1;

        public void Send(byte[] bytes)
        {
            foreach (byte b in bytes) _bytes.Enqueue(b);
        }

        public int Read(Span<byte> buffer)
        {
            int count = Math.Min(Math.Min(buffer.Length, _bytes.Count), 1 + random.Next(3000));
            for (int i = 0; i < count; i++) buffer[i] = _bytes.Dequeue();
            return count > 0 ? count : -11;
        }

        public int Write(ReadOnlySpan<byte> data) => data.IsEmpty || random.Next(3) == 0 ? -11
            : 1 + random.Next(data.Length);

        public void Dispose() { }
    }
}
