using System.Net.Sockets;
using System.Text;

namespace Qkvm.Guest.Tests.Network;

/// <summary>Answers every request with as many bytes as its path says, /1000, one connection each.</summary>
sealed class WebServer : IDisposable
{
    readonly TcpListener _listener;
    int _served;

    public WebServer(TcpListener listener)
    {
        _listener = listener;
        _ = Accept();
    }

    public int Served => _served;

    async Task Accept()
    {
        try
        {
            while (true) _ = Answer(await _listener.AcceptTcpClientAsync());
        }
        catch (SocketException) { }                                // closed
        catch (ObjectDisposedException) { }
    }

    async Task Answer(TcpClient client)
    {
        using (client)
        {
            NetworkStream stream = client.GetStream();
            using var reader = new StreamReader(stream, leaveOpen: true);
            string path = (await reader.ReadLineAsync() ?? "").Split(' ')[1];
            while (await reader.ReadLineAsync() is { Length: > 0 }) { }
            var body = new byte[int.Parse(path[1..])];
            string head = $"HTTP/1.0 200 OK\r\nContent-Length: {body.Length}\r\n\r\n";
            await stream.WriteAsync(Encoding.ASCII.GetBytes(head));
            await stream.WriteAsync(body);
            Interlocked.Increment(ref _served);
        }
    }

    public void Dispose() => _listener.Dispose();
}
