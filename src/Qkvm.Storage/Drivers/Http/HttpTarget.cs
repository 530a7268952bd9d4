using System.Text;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Drivers.Http;

/// <summary>A file of a web server, and how it is asked for.</summary>
/// <param name="Credentials">Null without TLS.</param>
/// <param name="Fields">Header fields of every request, each with its line's end.</param>
sealed record HttpTarget(Uri Url, TlsCredentials? Credentials, TimeSpan Patience, string Fields)
{
    /// <summary>Where a server has sent us on to. What is secret stays with the server that it is for.</summary>
    public HttpTarget MovedTo(Uri url, Func<string, TlsCredentials?> credentials) => this with
    {
        Url = url,
        Credentials = credentials(url.Scheme),
        Fields = (url.Scheme, url.Authority) == (Url.Scheme, Url.Authority) ? Fields : "",
    };

    /// <summary>By when the server has to say something. As of <see cref="Environment.TickCount64"/>.</summary>
    public long Deadline => Patience == Timeout.InfiniteTimeSpan ? long.MaxValue
        : Environment.TickCount64 + (long)Patience.TotalMilliseconds;

    public SocketAddress Address => new InternetAddress(Url.Host.Trim('[', ']'), Url.Port);

    /// <summary>A whole request. Spec: RFC 9112, section 3; RFC 9110, section 14.2.</summary>
    /// <param name="length">Bytes wanted; 0 for the header alone.</param>
    public byte[] Request(long offset, long length)
    {
        string method = length > 0 ? "GET" : "HEAD";
        string range = length > 0 ? $"Range: bytes={offset}-{offset + length - 1}\r\n" : "";
        return Encoding.ASCII.GetBytes($"{method} {Url.PathAndQuery} HTTP/1.1\r\nHost: {Url.Authority}\r\n"
            + $"User-Agent: qkvm\r\nAccept: */*\r\nAccept-Encoding: identity\r\n{range}{Fields}\r\n");
    }
}
