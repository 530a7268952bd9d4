using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Testing;

namespace Qkvm.Storage.Tests;

/// <summary>Files of web servers by https: whom this machine trusts, and what goes to them.</summary>
public partial class HttpsTests
{
    static readonly string s_folder = Directory.CreateTempSubdirectory("qkvm-https-").FullName;
    static readonly byte[] s_data = HttpDriverTests.Data;

    /// <summary>From the start of the process this machine trusts the test's authority: the runtime looks
    /// once.</summary>
#pragma warning disable CA2255
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void TrustAuthority()
    {
        TestCertificates.WriteAll($"{s_folder}/trusted");
        TestCertificates.WriteAll($"{s_folder}/unknown");
        _ = setenv("SSL_CERT_FILE", $"{s_folder}/trusted/ca-cert.pem", 1); // OpenSSL asks the C library
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(s_folder, recursive: true);
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);

    static WebServer Server(Func<string[], byte[]> answer, string authority = "trusted") => new(answer,
        X509Certificate2.CreateFromPemFile($"{s_folder}/{authority}/server-cert.pem",
            $"{s_folder}/{authority}/server-key.pem"));

    [Fact]
    public async Task Ranges_are_read_from_a_server_that_this_machine_trusts()
    {
        using WebServer web = Server(HttpDriverTests.Good);
        await using BlockDriver disk = HttpDriverTests.Open(web.Url, ",readahead=64k,timeout=0");
        Assert.Equal(s_data.Length, disk.Length);
        Assert.Equal(s_data, await disk.Read(0, s_data.Length));
        await Task.WhenAll(Enumerable.Range(0, 16).Select(i => Task.Run(async () =>
            Assert.Equal(s_data[(i * 65_536 + 7)..((i + 1) * 65_536)], await disk.Read(i * 65_536 + 7, 65_529)))));
        Assert.InRange(web.Clients, 1, 5);
    }

    [Fact]
    public async Task Only_sslverify_off_takes_any_server()
    {
        using WebServer stranger = Server(HttpDriverTests.Good, "unknown"), friend = Server(HttpDriverTests.Good);
        string otherName = friend.Url.Replace("localhost", "127.0.0.1");
        Assert.Contains("CURL: Error opening file: server certificate verification failed",
            Assert.Throws<ConfigurationException>(() => HttpDriverTests.Open(stranger.Url)).Message);
        Assert.Contains("Certificate does not match the hostname 127.0.0.1",
            Assert.Throws<ConfigurationException>(() => HttpDriverTests.Open(otherName)).Message);
        Assert.Empty(stranger.Requests);
        foreach (string url in new[] { stranger.Url, otherName })
        {
            await using BlockDriver disk = HttpDriverTests.Open(url, ",sslverify=off");
            Assert.Equal(s_data[..512], await disk.Read(0, 512));
        }
    }

    [Theory]
    [InlineData(",username=joe,password-secret=secret of joe", "Authorization: Basic am9lOnNlY3JldCBvZiBqb2U=")]
    [InlineData(",username=joe", "Authorization: Basic am9lOg==")]
    [InlineData(",cookie=id=42", "Cookie: id=42")] [InlineData(",cookie-secret=id=43", "Cookie: id=43")]
    public async Task Who_asks_is_told_with_every_request(string options, string field)
    {
        byte[] Answer(string[] request) => request.Contains(field) ? HttpDriverTests.Good(request)
            : HttpDriverTests.Text("HTTP/1.1 401 Unauthorized\nContent-Length: 0\n\n");

        using WebServer web = Server(Answer);
        await using BlockDriver disk = HttpDriverTests.Open(web.Url, options, Encoding.UTF8.GetBytes);
        Assert.Equal(s_data[100..200], await disk.Read(100, 100));
        Assert.Contains("The requested URL returned error: 401",
            Assert.Throws<ConfigurationException>(() => HttpDriverTests.Open(web.Url)).Message);
    }

    [Fact]
    public async Task No_secret_leaves_TLS()
    {
        using var plain = new WebServer(HttpDriverTests.Good);
        using WebServer web = Server(_ => Moved(plain.Url));
        Assert.Contains("from https to http", Assert.Throws<ConfigurationException>(
            () => HttpDriverTests.Open(web.Url, ",cookie=a=b")).Message);
        Assert.Empty(plain.Requests);
        using WebServer good = Server(HttpDriverTests.Good);
        using var entrance = new WebServer(_ => Moved(good.Url));
        await using BlockDriver disk = HttpDriverTests.Open(entrance.Url, ",cookie=a=b");
        Assert.Equal(s_data[..512], await disk.Read(0, 512));
        Assert.All(good.Requests, request => Assert.DoesNotContain("Cookie", request));
    }

    static byte[] Moved(string url) =>
        HttpDriverTests.Text($"HTTP/1.1 302 Found\nLocation: {url}\nContent-Length: 0\n\n");

    [Fact]
    public void A_server_without_TLS_is_told_apart()
    {
        using var plain = new WebServer(HttpDriverTests.Good);
        Assert.Contains("CURL: Error opening file: ", Assert.Throws<ConfigurationException>(
            () => HttpDriverTests.Open($"https://localhost:{plain.Port}/disk", ",timeout=1")).Message);
    }
}
