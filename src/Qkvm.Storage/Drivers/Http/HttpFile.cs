using System.Net.Sockets;
using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Drivers.Http;

/// <summary>Reads ranges of a file from a web server, over connections that are kept for the next.</summary>
/// <remarks>For threads that may wait, any number at once. Failures are BlockExceptions with EIO.</remarks>
sealed class HttpFile(HttpTarget target, Func<string, TlsCredentials?> credentials) : IDisposable
{
    const int MaxRedirects = 5;

    /// <summary>Connections that are kept.</summary>
    public const int MaxKept = 4;

    sealed record Link(StreamSocket Peer, TlsRelay? Tls, BlockingSocket Socket) : IDisposable
    {
        public string? TlsFailure { get; set; }

        public void Dispose()
        {
            Socket.Dispose();
            Tls?.Dispose();
            Peer.Dispose();
        }
    }

    readonly Stack<Link> _kept = new();
    HttpTarget _target = target;
    bool _isDisposed;

    public Uri Url => _target.Url;

    /// <summary>Asks for the header, wherever the file may have moved to.</summary>
    public HttpResponse Open()
    {
        for (int moves = 0; ; moves++)
        {
            HttpResponse response = Exchange(0, default);
            if (response.Status is not (301 or 302 or 303 or 307 or 308)) return response;
            if (moves == MaxRedirects) throw Failed($"Maximum ({MaxRedirects}) redirects followed");
            if (response.Field("Location") is not { } location || !Uri.TryCreate(_target.Url, location, out Uri? url)
                || url.Scheme is not ("http" or "https"))
                throw Failed("the server sends us on to where nothing is");
            if (_target.Url.Scheme == "https" && url.Scheme != "https")
                throw Failed("the server sends us on from https to http");
            _target = _target.MovedTo(url, credentials);
            DropKept();
        }
    }

    /// <summary>Fills the buffer from an offset on.</summary>
    public void Read(long offset, Memory<byte> buffer)
    {
        HttpResponse response = Exchange(offset, buffer);
        if (response.Status != 206) throw Failed($"The requested URL returned error: {response.Status}");
    }

    public void Dispose()
    {
        lock (_kept) _isDisposed = true;
        DropKept();
    }

    /// <summary>One that was kept may be of no use any more: then a new one is tried.</summary>
    HttpResponse Exchange(long offset, Memory<byte> body)
    {
        while (true)
        {
            Link? kept;
            lock (_kept) _kept.TryPop(out kept);
            Link link = kept ?? Connect();
            try
            {
                if (TryExchange(link, offset, body) is { } response) return response;
                link.Dispose();
                if (kept == null) throw Failed("Empty reply from server");
            }
            catch (HostException) when (kept != null) { link.Dispose(); }
            catch (Exception e) when (e is HostException or FormatException)
            {
                link.Dispose();
                throw Failed(link.TlsFailure ?? e.Message);
            }
            catch
            {
                link.Dispose();
                throw;
            }
        }
    }

    HttpResponse? TryExchange(Link link, long offset, Memory<byte> body)
    {
        BlockingSocket socket = link.Socket;
        socket.Deadline = _target.Deadline;
        socket.Write(_target.Request(offset, body.Length));
        if (HttpResponse.Read(socket) is not { } response) return null;
        bool isWhole = body.Length == 0;
        if (response.Status == 206)
        {
            if (response.Length != body.Length || response.Field("Content-Range")?.StartsWith(
                $"bytes {offset}-{offset + body.Length - 1}/", StringComparison.OrdinalIgnoreCase) != true)
                throw new FormatException("the server has sent another range than was asked for");
            for (Memory<byte> rest = body; rest.Length > 0;)
            {
                // Whoever sends something is alive.
                socket.Deadline = _target.Deadline;
                int n = socket.ReadSome(rest.Span);
                if (n == 0) throw new FormatException("transfer closed with outstanding read data remaining");
                rest = rest[n..];
            }
            isWhole = true;
        }
        if (isWhole && response.StaysOpen) Keep(link);
        else link.Dispose();
        return response;
    }

    void Keep(Link link)
    {
        lock (_kept)
            if (!_isDisposed && _kept.Count < MaxKept)
            {
                _kept.Push(link);
                return;
            }
        link.Dispose();
    }

    void DropKept()
    {
        lock (_kept)
            while (_kept.TryPop(out Link? link)) link.Dispose();
    }

    Link Connect()
    {
        StreamSocket peer;
        try { peer = Connector.Connect(_target.Address, _target.Patience); }
        catch (HostException e)
        {
            throw Failed($"Failed to connect to {_target.Url.Host} port {_target.Url.Port}: {Libc.Message(e.Errno)}");
        }
        catch (SocketException) { throw Failed($"Could not resolve host: {_target.Url.Host}"); }
        if (_target.Credentials == null) return new Link(peer, null, new BlockingSocket(peer));
        Link? link = null;
        var tls = new TlsRelay(peer, _target.Credentials, _target.Url.Host, _target.Patience, static () => { },
            why => { if (Volatile.Read(ref link) is { } known) known.TlsFailure = why; });
        Volatile.Write(ref link, new Link(peer, tls, new BlockingSocket(tls.Plain)));
        return link;
    }

    static BlockException Failed(string why) => new(why, Errno.Io);
}
