using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Http;

/// <summary>Protocols <c>http</c> and <c>https</c>: a file of a web server, for reading. Spec: RFC 9110, section 14,
/// "Range Requests".</summary>
/// <remarks>Deviations: HTTP/1.1 alone, without proxies; of ways to log in there is Basic.</remarks>
public sealed class HttpDriver : BlockNode
{
    static readonly Property[] Declared =
    [
        Property.Text("url", help: "of the file"), Property.Text("filename", help: "the same"),
        Property.Size("readahead", 256 << 10, "bytes that are read at one time at least"),
        Property.Number("timeout", 5, 0, 10_000, "seconds without a sign of life; 0: for ever"),
        Property.Text("username"), Property.Text("password-secret", help: "the id of a secret"),
        Property.Text("cookie", help: "NAME=CONTENT; NAME=CONTENT …"),
        Property.Text("cookie-secret", help: "the id of a secret that holds the cookie"),
        Property.Bool("sslverify", true, "the server's certificate must be one that this machine trusts"),
        Property.Missing("proxy-username"), Property.Missing("proxy-password-secret"),
    ];

    public static readonly BlockDriverModel Http = Named("http"), Https = Named("https");

    readonly string _name;
    readonly HttpFile _file;
    readonly ReadAhead _ahead;
    readonly SemaphoreSlim _turns = new(HttpFile.MaxKept);         // more connections would be of no use

    HttpDriver(string name, HttpFile file, string url, long length, int readAhead, NodeOptions options)
        : base(options)
    {
        (_name, _file, FileName, Length) = (name, file, url, length);
        _ahead = new ReadAhead(length, readAhead, file.Read);
    }

    public override string FormatName => _name;
    public override string FileName { get; }
    public override long Length { get; }
    public override ImageFacts Facts => new();

    public override ValueTask FlushAsync() => default;

    public override ValueTask DisposeAsync()
    {
        _file.Dispose();
        return default;
    }

    protected override ValueTask ReadCore(long offset, ScatterList buffers) =>
        _ahead.TryRead(offset, buffers) ? default : FetchAsync(offset, buffers);

    /// <summary>On a thread of its own: those of the pool carry what TLS has to say meanwhile.</summary>
    async ValueTask FetchAsync(long offset, ScatterList buffers)
    {
        await _turns.WaitAsync().ConfigureAwait(false);
        try
        {
            await Task.Factory.StartNew(() =>
            {
                foreach (Memory<byte> piece in buffers)
                {
                    _ahead.Read(offset, piece);
                    offset += piece.Length;
                }
            }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).ConfigureAwait(false);
        }
        finally { _turns.Release(); }
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => throw ForReading();
    protected override ValueTask DiscardCore(long offset, long length) => throw ForReading();
    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) => throw ForReading();

    static BlockException ForReading() => new("web servers' files are for reading", Errno.Perm);

    static BlockDriverModel Named(string name) => new(name, Declared, (properties, parts) =>
        Create(name, properties, parts))
    {
        IsProtocol = true,
        Description = "a file of a web server, for reading",
        Prefixes = [name],
        ParseFileName = static (text, options) => options.Add("url", text),
    };

    static HttpDriver Create(string name, Properties properties, NodeParts parts)
    {
        string text = properties.Text("url") ?? properties.Text("filename")
            ?? throw properties.Error($"{name} block driver requires an 'url' option");
        if (!Uri.TryCreate(text, UriKind.Absolute, out Uri? url) || url.Scheme != name)
            throw properties.Error(
                $"{name} curl driver cannot handle the URL '{text}' (does not start with '{name}://')");
        if (!parts.Node.ReadOnly && !parts.Around.AutoReadOnly)
            throw new ConfigurationException("curl driver does not support writes; give read-only=on");
        ulong readAhead = properties.Size("readahead");
        if (readAhead % 512 != 0 || readAhead > 64 << 20)
            throw properties.Error($"HTTP_READAHEAD_SIZE {readAhead} is not a multiple of 512 up to 64M");
        bool verifies = properties.Bool("sslverify");
        TlsCredentials? trust = null;
        TlsCredentials? TrustFor(string scheme) =>
            scheme == "https" ? trust ??= TlsCredentials.OfThisMachine(verifies) : null;

        HttpFile? file = null;
        try
        {
            TimeSpan patience = properties.Number("timeout") is > 0 and var seconds ? TimeSpan.FromSeconds(seconds)
                : Timeout.InfiniteTimeSpan;
            file = new HttpFile(new HttpTarget(url, TrustFor(name), patience, Fields(properties, parts)), TrustFor);
            HttpResponse found = file.Open();
            if (found.Status is < 200 or > 299)
                throw new BlockException($"The requested URL returned error: {found.Status}", Errno.Io);
            if (found.Length is not { } length)
                throw new BlockException("Server didn't report file size.", Errno.Io);
            if (!found.TakesRanges)
                throw new BlockException("Server does not support 'range' (byte ranges).", Errno.Io);
            return new HttpDriver(name, file, text, length, (int)readAhead, parts.Node with { ReadOnly = true });
        }
        catch (Exception e) when (e is BlockException or IOException)
        {
            file?.Dispose();
            throw new ConfigurationException($"CURL: Error opening file: {e.Message}", e);
        }
    }

    /// <summary>Header fields of every request. What would end a line is refused.</summary>
    static string Fields(Properties properties, NodeParts parts)
    {
        string fields = "";
        if (properties.Text("username") is { } user)
        {
            string password = properties.Text("password-secret") is { } id
                ? Encoding.UTF8.GetString(parts.Secret(id)) : "";
            fields = $"Authorization: Basic {Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{password}"))}\r\n";
        }
        string? cookie = properties.Text("cookie");
        if (properties.Text("cookie-secret") is { } secret)
        {
            if (cookie != null)
                throw properties.Error("curl driver cannot handle both cookie and cookie secret");
            cookie = Encoding.UTF8.GetString(parts.Secret(secret));
        }
        if (cookie?.Any(char.IsControl) == true) throw properties.Error("a cookie is one line");
        return cookie == null ? fields : $"{fields}Cookie: {cookie}\r\n";
    }
}
