using System.Text;

namespace Qkvm.Host.Sockets;

/// <summary>The head of a request. Spec: RFC 9112, sections 3 and 5.</summary>
public sealed class HttpRequest
{
    readonly Dictionary<string, string> _fields = new(StringComparer.OrdinalIgnoreCase);

    HttpRequest(string method, string path) => (Method, Path) = (method, path);

    public string Method { get; }

    /// <summary>Without what stands behind a question mark.</summary>
    public string Path { get; }

    /// <summary>Several of one name are one, with commas; null for none.</summary>
    public string? Field(string name) => _fields.GetValueOrDefault(name);

    /// <summary>Whether a field that is a list has an item, whatever its case.</summary>
    public bool Lists(string name, string item) => Field(name)?.Split(',')
        .Any(one => one.Trim().Equals(item, StringComparison.OrdinalIgnoreCase)) ?? false;

    /// <param name="head">Up to its empty line.</param>
    /// <returns>Null for what is none of version 1.1.</returns>
    public static HttpRequest? Parse(ReadOnlySpan<byte> head)
    {
        string[] lines = Encoding.ASCII.GetString(head).Split("\r\n");
        if (lines[0].Split(' ') is not [var method, var target, "HTTP/1.1"]) return null;
        int query = target.IndexOfAny(['?', '#']);
        var request = new HttpRequest(method, query < 0 ? target : target[..query]);
        foreach (string line in lines.AsSpan(1))
        {
            if (line.Length == 0) continue;
            int colon = line.IndexOf(':');
            if (colon <= 0) return null;
            string name = line[..colon], value = line[(colon + 1)..].Trim();
            request._fields[name] =
                request._fields.TryGetValue(name, out string? before) ? $"{before}, {value}" : value;
        }
        return request;
    }
}
