using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text;
using System.Text.RegularExpressions;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Host.Sockets;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Display;

/// <summary>The port for browsers: the page, and the websocket that it opens. Spec: RFC 9112; RFC 6455.</summary>
public sealed class VncWebTests : IDisposable
{
    readonly string _folder = Directory.CreateTempSubdirectory("qkvm-web-").FullName;

    public VncWebTests() => TestCertificates.WriteAll(_folder);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    static VncViewer Browser(VncBench bench)
    {
        EndPointInfo at = bench.Ask(bench.Server.Query).Servers.Single(server => server.IsWebSocket);
        return new VncViewer(new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp),
            new IPEndPoint(IPAddress.Loopback, int.Parse(at.Service)));
    }

    static byte[] Upgrade(string host, string? origin) => Encoding.ASCII.GetBytes(
        $"GET /vnc HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + (origin == null ? "" : $"Origin: {origin}\r\n")
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");

    static VncBench WithWeb(params OptionPair[] options) =>
        new(address: "127.0.0.1:0,to=99", options: [new("websocket", "0"), .. options]);

    /// <summary>A page of somebody else's, open in the browser of one who may watch, is kept out unless it would need a
    /// password.</summary>
    [Theory]
    [InlineData("http://h:5700", "off", "101")] [InlineData("https://elsewhere", "off", "403")]
    [InlineData("null", "off", "403")] [InlineData("https://elsewhere", "on", "101")]
    public void Pages_of_others_may_not_watch(string origin, string password, string status)
    {
        using VncBench bench = WithWeb(new OptionPair("password", password));
        using VncViewer viewer = Browser(bench);
        viewer.Send(Upgrade("h:5700", origin));
        Assert.StartsWith($"HTTP/1.1 {status} ", viewer.Line());
    }

    /// <summary>All that the page loads is there, and nothing comes from elsewhere.</summary>
    [Fact]
    public async Task A_browser_gets_the_page_and_all_that_it_loads()
    {
        using VncBench bench = WithWeb();
        EndPointInfo at = bench.Ask(bench.Server.Query).Servers.Single(server => server.IsWebSocket);
        using var client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{at.Service}/") };
        HashSet<string> seen = ["index.html"];
        var left = new Queue<string>(seen);
        while (left.TryDequeue(out string? path))
        {
            using HttpResponseMessage answer = await client.GetAsync(path == "index.html" ? "" : path);
            Assert.True(answer.IsSuccessStatusCode, path);
            Assert.Contains("default-src 'none'", answer.Headers.GetValues("Content-Security-Policy").Single());
            string text = await answer.Content.ReadAsStringAsync();
            foreach (Match found in Regex.Matches(text, "(?:from|import) *\"(\\.[^\"]+)\"|(?:src|href)=\"([^\"]+)\""))
            {
                var to = new Uri(new Uri(client.BaseAddress, path), found.Groups[1].Success ? found.Groups[1].Value
                    : found.Groups[2].Value);
                Assert.Equal(client.BaseAddress.Authority, to.Authority);
                if (path.EndsWith(".txt", StringComparison.Ordinal)) continue;
                if (seen.Add(to.AbsolutePath[1..])) left.Enqueue(to.AbsolutePath[1..]);
            }
        }
        Assert.True(seen.Count > 20, $"{seen.Count} files");
    }

    [Theory]
    [InlineData("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "404")]
    [InlineData("GET /../complete HTTP/1.1\r\nHost: h\r\n\r\n", "404")]
    [InlineData("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", "405")]
    [InlineData("RFB 003.008\r\n\r\n", "400")]
    [InlineData("HEAD /page.js HTTP/1.1\r\nHost: h\r\n\r\n", "200")]
    [InlineData("GET /vnc HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "400")]
    public void What_browsers_do_not_say_is_answered_too(string request, string status)
    {
        using VncBench bench = WithWeb();
        using VncViewer viewer = Browser(bench);
        viewer.Send(Encoding.ASCII.GetBytes(request));
        Assert.StartsWith($"HTTP/1.1 {status} ", viewer.Line());
        viewer.AssertHungUp();
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public void A_browser_watches_through_a_websocket(bool isSecret)
    {
        using var bench = new VncBench(address: "127.0.0.1:0,to=99", options:
            [new("websocket", "0"), .. isSecret ? (OptionPair[])[new("tls-creds", "tls0")] : []],
            setUp: backends => backends.Objects["tls0"] = new TlsCredentials(_folder, isServer: true,
                verifiesPeer: false, password: null));
        using VncViewer viewer = Browser(bench);
        if (isSecret) viewer.Layer(stream => VncSecurityTests.Secured(stream, _folder));
        viewer.Send(Upgrade("h", null));
        Assert.Equal("HTTP/1.1 101 Switching Protocols", viewer.Line());
        for (string line = " "; line.Length > 0;) line = viewer.Line();
        viewer.Layer(stream => WebSocketStream.Create(WebSocket.CreateFromStream(stream, isServer: false, null,
            Timeout.InfiniteTimeSpan), WebSocketMessageType.Binary, ownsWebSocket: true));
        viewer.Handshake(8);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
        Assert.True(Assert.Single(bench.Ask(bench.Server.Query).Clients).IsWebSocket);
    }
}
