using System.Globalization;
using System.Text;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Drivers.Http;

/// <summary>What a server sends in front of a body. Spec: RFC 9112, sections 4 and 5.</summary>
sealed class HttpResponse
{
    /// <summary>Bytes of a header that anybody needs.</summary>
    const int MaxHeader = 64 << 10;

    readonly Dictionary<string, string> _fields = new(StringComparer.OrdinalIgnoreCase);

    HttpResponse(int status) => Status = status;

    public int Status { get; }

    public string? Field(string name) => _fields.GetValueOrDefault(name);

    /// <summary>Bytes of the body; null where the server does not tell, or sends it in chunks.</summary>
    public long? Length => Field("Transfer-Encoding") == null
        && long.TryParse(Field("Content-Length"), NumberStyles.None, CultureInfo.InvariantCulture, out long length)
            ? length : null;

    public bool TakesRanges => Field("Accept-Ranges")?.Contains("bytes", StringComparison.OrdinalIgnoreCase) == true;

    /// <summary>The connection can be used again.</summary>
    public bool StaysOpen =>
        Field("Connection")?.Contains("close", StringComparison.OrdinalIgnoreCase) != true && IsNew;

    bool IsNew { get; init; }

    /// <summary>Null where the server has closed the connection before it said anything.</summary>
    /// <exception cref="FormatException">It is no response.</exception>
    public static HttpResponse? Read(BlockingSocket socket)
    {
        int left = MaxHeader;
        if (Line(socket, ref left) is not { } status) return null;
        string[] words = status.Split(' ', 3);
        if (words.Length < 2 || !words[0].StartsWith("HTTP/1.", StringComparison.Ordinal)
            || !int.TryParse(words[1], NumberStyles.None, CultureInfo.InvariantCulture, out int code))
            throw new FormatException("the server does not speak HTTP/1.1");
        var response = new HttpResponse(code) { IsNew = words[0] != "HTTP/1.0" };
        while (Line(socket, ref left) is { Length: > 0 } line)
        {
            int colon = line.IndexOf(':');
            if (colon > 0) response._fields[line[..colon]] = line[(colon + 1)..].Trim();
        }
        return response;
    }

    static string? Line(BlockingSocket socket, ref int left)
    {
        var line = new List<byte>();
        Span<byte> one = stackalloc byte[1];
        while (true)
        {
            if (!socket.TryRead(one)) return line.Count == 0 ? null : throw new FormatException("a header without end");
            if (one[0] == '\n') return Encoding.Latin1.GetString([.. line]).TrimEnd('\r');
            if (--left == 0) throw new FormatException($"a header of more than {MaxHeader} bytes");
            line.Add(one[0]);
        }
    }
}
