using System.Net;
using System.Net.Sockets;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.Http;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests;

/// <summary>Files of web servers, well-behaved and others.</summary>
public class HttpDriverTests
{
    internal static readonly byte[] Data = BlockDriverExtensions.Pattern(1, 1 << 20);

    internal static byte[] Text(string text) => Encoding.ASCII.GetBytes(text.ReplaceLineEndings("\r\n"));

    internal static byte[] Good(string[] request)
    {
        if (request[0].StartsWith("HEAD"))
            return Text($"HTTP/1.1 200 OK\nContent-Length: {Data.Length}\nAccept-Ranges: bytes\n\n");
        string range = request.First(line => line.StartsWith("Range: bytes="))["Range: bytes=".Length..];
        int from = int.Parse(range.Split('-')[0]), to = int.Parse(range.Split('-')[1]);
        return [.. Text($"HTTP/1.1 206 Partial Content\ncontent-length: {to - from + 1}\n"
            + $"Content-Range: bytes {from}-{to}/{Data.Length}\n\n"), .. Data[from..(to + 1)]];
    }

    internal static BlockDriver Open(string url, string options = "", Func<string, byte[]?>? secrets = null) =>
        new BlockFactory(new Catalogue<BlockDriverModel>("block driver", [HttpDriver.Http, HttpDriver.Https]),
            _ => { }) { Secrets = secrets ?? (static _ => null) }.AddNode(Options.Parse(
                $"{url[..url.IndexOf(':')]},node-name=n,read-only=on,url={url}{options}", "-blockdev", "driver"));

    [Fact]
    public async Task Ranges_are_read_over_few_connections()
    {
        using var web = new WebServer(Good);
        await using BlockDriver disk = Open(web.Url, ",readahead=64k");
        Assert.Equal(Data.Length, disk.Length);
        Assert.True(disk.IsReadOnly);
        var random = new Random(5);
        for (int i = 0; i < 40; i++)
        {
            int offset = random.Next(Data.Length - 1),
                length = random.Next(1, Math.Min(200_000, Data.Length - offset));
            Assert.Equal(Data[offset..(offset + length)], await disk.Read(offset, length));
        }
        Assert.Equal(1, web.Clients);
        int before = web.Requests.Count;
        for (int at = 0; at < 65_536; at += 512) Assert.Equal(Data[at..(at + 512)], await disk.Read(at, 512));
        Assert.InRange(web.Requests.Count - before, 0, 2);
        await Task.WhenAll(Enumerable.Range(0, 16).Select(i => Task.Run(async () =>
            Assert.Equal(Data[(i * 65_536)..((i + 1) * 65_536)], await disk.Read(i * 65_536, 65_536)))));
    }

    [Fact]
    public async Task Redirects_are_followed_and_cookies_go_to_their_server_alone()
    {
        using var web = new WebServer(Good);
        using var other = new WebServer(_ => Text($"HTTP/1.1 302 Found\nLocation: {web.Url}\nContent-Length: 0\n\n"));
        await using BlockDriver disk = Open(other.Url, ",cookie=a=b");
        Assert.Equal(Data[..512], await disk.Read(0, 512));
        Assert.Contains("Cookie: a=b", other.Requests[0]);
        Assert.All(web.Requests, request => Assert.DoesNotContain("Cookie", request));
    }

    [Theory]
    [InlineData("HTTP/1.1 404 Not Found\n\n", "The requested URL returned error: 404")]
    [InlineData("HTTP/1.1 200 OK\nAccept-Ranges: bytes\n\n", "Server didn't report file size.")]
    [InlineData("HTTP/1.1 200 OK\nContent-Length: 512\n\n", "Server does not support 'range' (byte ranges).")]
    [InlineData("HTTP/1.1 200 OK\nContent-Length: 99999999999999999999\nAccept-Ranges: bytes\n\n", "file size")]
    [InlineData("HTTP/1.1 301 Gone\nLocation: file:///etc/passwd\n\n", "to where nothing is")]
    [InlineData("HTTP/1.1 301 Gone\nLocation: /disk\nContent-Length: 0\n\n", "redirects followed")]
    [InlineData("SSH-2.0-OpenSSH\n", "does not speak HTTP/1.1")] [InlineData("", "Empty reply from server")]
    public void Servers_that_are_of_no_use_are_told_apart(string answer, string why)
    {
        using var web = new WebServer(_ => Text(answer));
        string message = Assert.Throws<ConfigurationException>(() => Open(web.Url)).Message;
        Assert.Contains("CURL: Error opening file: ", message);
        Assert.Contains(why, message);
    }

    [Fact]
    public void A_header_without_end_is_given_up()
    {
        using var web = new WebServer(_ => [.. "HTTP/1.1 200 OK\r\n"u8, .. Enumerable.Repeat((byte)'a', 100_000)]);
        Assert.Contains("a header of more than 65536 bytes",
            Assert.Throws<ConfigurationException>(() => Open(web.Url)).Message);
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\nContent-Length: 512\n\n")] [InlineData("HTTP/1.1 416 Range Not Satisfiable\n\n")]
    [InlineData("HTTP/1.1 206 Partial\nContent-Length: 262144\nContent-Range: bytes 1-262144/1048576\n\n")]
    [InlineData("HTTP/1.1 206 Partial\nContent-Length: 99\nContent-Range: bytes 0-262143/1048576\n\n")] [InlineData("")]
    public async Task A_read_that_gets_something_else_fails(string answer)
    {
        using var web = new WebServer(request => request[0].StartsWith("HEAD") ? Good(request) : Text(answer));
        await using BlockDriver disk = Open(web.Url);
        Assert.Equal(5, (await Assert.ThrowsAsync<BlockException>(() => disk.Read(0, 512))).Errno);
    }

    [Fact]
    public async Task A_kept_connection_that_has_ended_is_made_again()
    {
        int served = 0;
        using var web = new WebServer(request => ++served % 2 == 0 ? [] : Good(request));
        await using BlockDriver disk = Open(web.Url, ",readahead=512");
        for (int at = 0; at < 8192; at += 1024) Assert.Equal(Data[at..(at + 1024)], await disk.Read(at, 1024));
    }

    [Fact]
    public void A_server_that_says_nothing_is_given_up_in_time()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        Assert.Contains("Connection timed out", Assert.Throws<ConfigurationException>(
            () => Open($"http://{listener.LocalEndpoint}/x", ",timeout=1")).Message);
    }
}
