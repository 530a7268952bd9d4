using System.Text;

namespace Qkvm.Host.Sockets;

/// <summary>A file that a browser may have.</summary>
/// <param name="Type">Of its contents: "text/html".</param>
public sealed record HttpFile(string Type, ReadOnlyMemory<byte> Bytes);

/// <summary>One request of a browser's: it gets a file and the connection ends, or it becomes a websocket. Spec: RFC
/// 9112; RFC 6455.</summary>
/// <remarks>Main loop, under the machine lock. Whatever comes, it keeps one request and one answer.</remarks>
public sealed class HttpDoor : IConnectionUser, IDisposable
{
    const int MaxRequest = WebSocketTransport.MaxRequest, MaxFile = 4 << 20;

    /// <summary>Pages use what comes from this server alone.</summary>
    const string Policy = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self' "
        + "'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' ws: wss:; form-action 'none'; "
        + "base-uri 'none'; frame-ancestors 'self'\r\nX-Content-Type-Options: nosniff\r\n"
        + "Referrer-Policy: no-referrer\r\nCache-Control: no-cache\r\n";

    readonly Connection _connection;
    readonly Timer _patience;
    readonly Func<string, HttpFile?> _find;
    readonly Func<HttpRequest, bool> _admits;
    readonly Action<ITransport> _opened;
    readonly Action<HttpDoor> _closed;
    readonly byte[] _input = new byte[MaxRequest];
    int _count;
    bool _isAnswered, _isOver;

    /// <param name="patience">For the request and for taking the answer.</param>
    /// <param name="find">The file of a path such as "/page.js".</param>
    /// <param name="admits">Whether a websocket may be had; it is told of a request that asks for one.</param>
    /// <param name="opened">Takes what became a websocket, whose handshake is still to be answered.</param>
    /// <param name="closed">It is over, or has become a websocket.</param>
    public HttpDoor(ITransport transport, EventLoop loop, TimeSpan patience, Func<string, HttpFile?> find,
        Func<HttpRequest, bool> admits, Action<ITransport> opened, Action<HttpDoor> closed)
    {
        (_find, _admits, _opened, _closed) = (find, admits, opened, closed);
        _connection = new Connection(transport, loop, this, MaxFile);
        _patience = new Timer(_ => loop.Post(Dispose), null, patience, Timeout.InfiniteTimeSpan);
        _connection.AcceptInput();
    }

    public void Dispose()
    {
        if (!End()) return;
        _connection.Dispose();
        _closed(this);
    }

    int IConnectionUser.Room => _isAnswered ? 0 : MaxRequest - _count;
    void IConnectionUser.Closed() => Dispose();
    void IConnectionUser.Writable() { }
    void IConnectionUser.Sent() => Dispose();

    void IConnectionUser.Receive(Span<byte> data)
    {
        data.CopyTo(_input.AsSpan(_count));
        _count += data.Length;
        int end = _input.AsSpan(0, _count).IndexOf("\r\n\r\n"u8);
        if (end >= 0) Take(HttpRequest.Parse(_input.AsSpan(0, end)));
        else if (_count == MaxRequest) Say("431 Request Header Fields Too Large");
    }

    void Take(HttpRequest? request)
    {
        if (request == null) Say("400 Bad Request");
        else if (request.Field("Upgrade") != null)
        {
            if (!_admits(request)) { Say("403 Forbidden"); return; }
            if (!End()) return;
            var begun = new BegunTransport(_connection.Release(), _input.AsMemory(0, _count));
            _closed(this);
            _opened(new WebSocketTransport(begun, static () => { }));
        }
        else if (request.Method is not ("GET" or "HEAD")) Say("405 Method Not Allowed");
        else if (_find(request.Path) is not { } file) Say("404 Not Found");
        else Say("200 OK", file, hasBody: request.Method == "GET");
    }

    void Say(string status, HttpFile? file = null, bool hasBody = true)
    {
        _isAnswered = true;
        ReadOnlySpan<byte> body = file == null ? Encoding.ASCII.GetBytes($"{status}\n") : file.Bytes.Span;
        string head = $"HTTP/1.1 {status}\r\nContent-Type: {file?.Type ?? "text/plain"}\r\n"
            + $"Content-Length: {body.Length}\r\n{Policy}Connection: close\r\n\r\n";
        _connection.Write([.. Encoding.ASCII.GetBytes(head), .. hasBody ? body : []]);
        if (_connection.Pending == 0) Dispose();
    }

    bool End()
    {
        if (_isOver) return false;
        _isOver = true;
        _patience.Dispose();
        return true;
    }

    /// <summary>A transport whose first bytes were read already.</summary>
    sealed class BegunTransport(ITransport inner, ReadOnlyMemory<byte> begin) : ITransport
    {
        ReadOnlyMemory<byte> _left = begin;

        public int InputFd => inner.InputFd;
        public int OutputFd => inner.OutputFd;
        public bool HasInput => !_left.IsEmpty || inner.HasInput;
        public bool WantsToWrite => inner.WantsToWrite;
        public int Write(ReadOnlySpan<byte> data) => inner.Write(data);
        public int TakeDescriptor() => inner.TakeDescriptor();
        public void Dispose() => inner.Dispose();

        public int Read(Span<byte> buffer)
        {
            if (_left.IsEmpty) return inner.Read(buffer);
            int count = Math.Min(buffer.Length, _left.Length);
            _left.Span[..count].CopyTo(buffer);
            _left = _left[count..];
            return count;
        }
    }
}
