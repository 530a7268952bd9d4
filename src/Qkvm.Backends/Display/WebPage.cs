using System.Collections.Concurrent;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>The page for browsers: the files of web/, and noVNC's, which travel inside the executable.</summary>
static class WebPage
{
    const string ResourcePrefix = "web", Index = "/index.html";

    static readonly ConcurrentDictionary<string, HttpFile?> s_files = new(StringComparer.Ordinal);

    static readonly HashSet<string> s_names =
        [.. typeof(WebPage).Assembly.GetManifestResourceNames().Where(name => name.StartsWith($"{ResourcePrefix}/",
            StringComparison.Ordinal))];

    /// <param name="path">"/", "/page.js", "/novnc/core/rfb.js" …</param>
    /// <returns>Null for what there is not.</returns>
    public static HttpFile? Find(string path)
    {
        string name = ResourcePrefix + (path == "/" ? Index : path);
        return s_names.Contains(name) ? s_files.GetOrAdd(name, Load) : null;
    }

    static HttpFile? Load(string name)
    {
        using Stream? stream = typeof(WebPage).Assembly.GetManifestResourceStream(name);
        if (stream == null) return null;
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return new HttpFile(TypeOf(Path.GetExtension(name)), bytes);
    }

    static string TypeOf(string extension) => extension switch
    {
        ".html" => "text/html; charset=utf-8",
        ".js" => "text/javascript; charset=utf-8",
        ".css" => "text/css; charset=utf-8",
        ".svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
}
