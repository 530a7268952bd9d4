using System.Globalization;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Drivers.Nbd;

/// <summary>Exports as users write them in one word. Spec: NBD's doc/uri.md, and QEMU's older
/// <c>nbd:HOST:PORT[:exportname=NAME]</c> and <c>nbd:unix:PATH[:exportname=NAME]</c>.</summary>
static class NbdFileName
{
    public static readonly string[] Prefixes = ["nbd", "nbd+tcp", "nbd+unix", "nbds", "nbds+unix"];

    const string ExportMark = ":exportname=";

    /// <summary>Adds the options that a name stands for.</summary>
    public static void Parse(string name, Options options)
    {
        foreach (string other in new[] { "host", "port", "path", "server" })
            if (options.Has(other))
                throw new ConfigurationException("host/port/path and file names may not be specified at the same time");
        if (name.Contains("://", StringComparison.Ordinal)) ParseUri(name, options);
        else ParseOld(name["nbd:".Length..], options);
    }

    /// <summary>The name of an export, as messages have it.</summary>
    public static string Of(string? path, string host, string port, string export) => (path, export) switch
    {
        (not null, "") => $"nbd+unix://?socket={path}",
        (not null, _) => $"nbd+unix:///{export}?socket={path}",
        (null, "") => $"nbd://{host}:{port}",
        _ => $"nbd://{host}:{port}/{export}",
    };

    static void ParseOld(string rest, Options options)
    {
        int mark = rest.IndexOf(ExportMark, StringComparison.Ordinal);
        if (mark >= 0)
        {
            options.Add("export", rest[(mark + ExportMark.Length)..]);
            rest = rest[..mark];
        }
        if (rest.StartsWith("unix:", StringComparison.Ordinal))
        {
            AddUnix(options, rest["unix:".Length..]);
            return;
        }
        int colon = rest.LastIndexOf(':');
        if (colon < 0) throw new ConfigurationException($"error parsing address '{rest}'; it is nbd:HOST:PORT");
        AddInet(options, rest[..colon].Trim('[', ']'), rest[(colon + 1)..]);
    }

    static void ParseUri(string name, Options options)
    {
        if (!Uri.TryCreate(name, UriKind.Absolute, out Uri? uri))
            throw new ConfigurationException("No valid URL specified");
        bool isUnix = uri.Scheme.EndsWith("+unix", StringComparison.Ordinal);
        string export = Uri.UnescapeDataString(uri.AbsolutePath).TrimStart('/');
        if (export.Length > 0) options.Add("export", export);
        if (uri.Scheme.StartsWith("nbds", StringComparison.Ordinal) && !options.Has("tls-creds"))
            throw new ConfigurationException($"{uri.Scheme}: needs tls-creds=ID of an -object tls-creds-x509 with "
                + "endpoint=client");
        if (!isUnix)
        {
            if (uri.Host.Length == 0 || uri.Query.Length > 0)
                throw new ConfigurationException("No valid URL specified");
            AddInet(options, uri.Host.Trim('[', ']'),
                (uri.Port > 0 ? uri.Port : NbdProtocol.DefaultPort).ToString(CultureInfo.InvariantCulture));
            return;
        }
        const string socket = "?socket=";
        if (uri.Host.Length > 0 || !uri.Query.StartsWith(socket, StringComparison.Ordinal))
            throw new ConfigurationException("No valid URL specified");
        AddUnix(options, Uri.UnescapeDataString(uri.Query[socket.Length..]));
    }

    static void AddUnix(Options options, string path)
    {
        options.Add("server.type", "unix");
        options.Add("server.path", path);
    }

    static void AddInet(Options options, string host, string port)
    {
        options.Add("server.type", "inet");
        options.Add("server.host", host);
        options.Add("server.port", port);
    }
}
