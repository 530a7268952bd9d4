using System.Text;

namespace Qkvm.Host.Sockets;

/// <summary>The request that makes a websocket of a connection, and its answer. Spec: RFC 6455, section 4.2.</summary>
public static class WebSocketHandshake
{
    const string Protocol = "binary", Suffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const int KeyLength = 24;                                      // 16 bytes in base64

    /// <summary>Answers a whole request, up to its empty line.</summary>
    /// <returns>The answer, and whether the connection is a websocket from now on.</returns>
    public static (byte[] Answer, bool IsOpen) Answer(ReadOnlySpan<byte> request)
    {
        if (HttpRequest.Parse(request) is not { } asked) return Refuse("400 Bad Request");
        if (asked.Method != "GET") return Refuse("405 Method Not Allowed");
        if (!Has("Host") || !asked.Lists("Connection", "Upgrade") || !asked.Lists("Upgrade", "websocket"))
            return Refuse("400 Bad Request");
        if (asked.Field("Sec-WebSocket-Version") != "13")
            return Refuse("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n");
        if (asked.Field("Sec-WebSocket-Key") is not { Length: KeyLength } key) return Refuse("400 Bad Request");
        bool hasProtocol = Has("Sec-WebSocket-Protocol");
        if (hasProtocol && !asked.Lists("Sec-WebSocket-Protocol", Protocol)) return Refuse("400 Bad Request");
        string accept = Convert.ToBase64String(Sha1.Hash(Encoding.ASCII.GetBytes(key + Suffix)));
        return (Encoding.ASCII.GetBytes("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
            + $"Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
            + (hasProtocol ? $"Sec-WebSocket-Protocol: {Protocol}\r\n" : "") + "\r\n"), true);

        bool Has(string name) => asked.Field(name) != null;
    }

    /// <summary>What a request gets that is longer than any that we mean to read.</summary>
    public static byte[] TooLong => Refuse("431 Request Header Fields Too Large").Answer;

    static (byte[] Answer, bool IsOpen) Refuse(string status, string fields = "") =>
        (Encoding.ASCII.GetBytes($"HTTP/1.1 {status}\r\n{fields}Connection: close\r\nContent-Length: 0\r\n\r\n"),
            false);
}
