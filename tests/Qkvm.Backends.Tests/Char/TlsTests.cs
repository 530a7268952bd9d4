using System.Diagnostics;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Backends.Objects;
using Qkvm.Host.Sockets;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Char;

/// <summary>TLS on sockets: this side's server and client, beside the runtime's and OpenSSL's own.</summary>
public sealed class TlsTests : IDisposable
{
    static readonly TimeSpan s_patience = TimeSpan.FromMinutes(1);

    readonly string _folder = Directory.CreateTempSubdirectory("qkvm-tls-").FullName;
    readonly CharBench _bench = new();

    public TlsTests()
    {
        TestCertificates.WriteAll(_folder);
        TestCertificates.WriteAll(Other);                          // the same names, signed by somebody else
    }

    string Other => Path.Combine(_folder, "other");

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Theory]
    [InlineData(true)] [InlineData(false)]
    public async Task A_client_with_a_certificate_is_served(bool verifies)
    {
        Serve(verifies);
        using SslStream client = await Connect(verifies ? _folder : null);
        await client.WriteAsync("hello"u8.ToArray());
        Assert.Equal("hello", await Read(client, 5));
        var much = new byte[300_000];                              // more than all bounds together
        Random.Shared.NextBytes(much);
        Task writing = client.WriteAsync(much).AsTask();
        var back = new byte[much.Length];
        await client.ReadExactlyAsync(back);
        await writing;
        Assert.Equal(much, back);
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public async Task Who_has_none_or_another_authoritys_is_turned_away_and_the_next_is_served(bool hasOther)
    {
        Serve(verifies: true);
        using (SslStream refused = await Connect(hasOther ? Other : null)) // TLS 1.3: the server's verdict comes later
            await Assert.ThrowsAnyAsync<IOException>(async () =>
            {
                await refused.WriteAsync("hello"u8.ToArray());
                if (await refused.ReadAsync(new byte[5]) == 0) throw new EndOfStreamException();
            });
        using SslStream client = await Connect(_folder);
        await client.WriteAsync("hello"u8.ToArray());
        Assert.Equal("hello", await Read(client, 5));
    }

    [Fact]
    public async Task What_was_written_last_arrives()
    {
        Serve(verifies: true);
        using SslStream client = await Connect(_folder);
        await client.WriteAsync("hello"u8.ToArray());
        Assert.Equal("hello", await Read(client, 5));
        _bench.Locked(() =>
        {
            _bench.Backend!.Write("bye"u8);
            ((IDisposable)_bench.Backend).Dispose();
        });
        Assert.Equal("bye", await Read(client, 3));
        Assert.Equal(0, await client.ReadAsync(new byte[1]));
    }

    [Fact]
    public async Task What_is_no_handshake_ends_the_connection()
    {
        Serve(verifies: true);
        using (Socket plain = _bench.Client())
        {
            plain.Send("GET / HTTP/1.1\r\n\r\n"u8);
            try { Assert.DoesNotContain(CharBench.Receive(plain, 1), b => b is >= 0x20 and < 0x7F); }
            catch (SocketException) { }                            // reset, as not all was read
        }
        using SslStream client = await Connect(_folder);
        await client.WriteAsync("hello"u8.ToArray());
        Assert.Equal("hello", await Read(client, 5));
    }

    [Fact]
    public async Task Half_a_handshake_is_not_waited_for_without_end()
    {
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        using StreamSocket silent = new(theirs);
        using var credentials = new TlsCredentials(_folder, isServer: true, verifiesPeer: true, null);
        var failed = new TaskCompletionSource<string>();
        using var relay = new TlsRelay(ours, credentials, null, TimeSpan.FromMilliseconds(50), () => { },
            failed.SetResult);
        Assert.Equal("the other end does not finish its handshake", await failed.Task.WaitAsync(s_patience));
        Assert.True(relay.Plain.Wait(forRoom: false, (int)s_patience.TotalMilliseconds));
        Assert.Equal(0, relay.Plain.Read(new byte[1]));
        ours.Dispose();
    }

    /// <summary>A client checks the server's name where it has one.</summary>
    [Theory]
    [InlineData("localhost", null)] [InlineData(null, null)]
    [InlineData("elsewhere", "does not match the hostname")]
    public async Task A_client_knows_its_server(string? name, string? failure)
    {
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        using var credentials = new TlsCredentials(_folder, isServer: false, verifiesPeer: true, null);
        var result = new TaskCompletionSource<string?>();
        using var relay = new TlsRelay(ours, credentials, name, s_patience, () => result.SetResult(null),
            result.SetResult);
        await using var server = new SslStream(new NetworkStream(new Socket(new SafeSocketHandle((nint)theirs, true)),
            ownsSocket: true));
        Task shaking = server.AuthenticateAsServerAsync(X509Certificate2.CreateFromPemFile(
            $"{_folder}/server-cert.pem", $"{_folder}/server-key.pem"));
        string? told = await result.Task.WaitAsync(s_patience);
        if (failure != null) Assert.Contains(failure, told);
        else
        {
            Assert.Null(told);
            await shaking;
            relay.Plain.Write("hello"u8);
            Assert.Equal("hello", await Read(server, 5));
        }
        ours.Dispose();
    }

    [OpensslFact]
    public void Openssl_talks_to_it()
    {
        Serve(verifies: true);
        using Process client = Process.Start(new ProcessStartInfo("openssl", ["s_client", "-quiet", "-unix",
            _bench.Path, "-CAfile", $"{_folder}/ca-cert.pem", "-verify_return_error", "-cert",
            $"{_folder}/client-cert.pem", "-key", $"{_folder}/client-key.pem"])
        { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true })!;
        client.StandardInput.Write("hello\n");
        client.StandardInput.Flush();
        Assert.Equal("hello", client.StandardOutput.ReadLine());
        client.Kill();
        client.WaitForExit();
    }

    [Theory]
    [InlineData("dir=/nowhere", "cannot read /nowhere/ca-cert.pem: ")]
    [InlineData("endpoint=server", "needs dir=")]
    [InlineData("dir=DIR,priority=NORMAL", "priority=NORMAL is not built yet; OpenSSL's configuration says which")]
    public void Credentials_that_cannot_be_say_why(string options, string message) => Assert.Contains(message,
        Assert.Throws<ConfigurationException>(() => TlsCredentialsX509.Model.Create(new Properties(
            TlsCredentialsX509.Model, Options.Parse($"id=t,{options.Replace("DIR", _folder)}", "-object x")),
            new FakeHost(null!))).Message);

    [Theory]
    [InlineData("server=on,wait=off,tls-creds=none", "there is no object 'none'")]
    [InlineData("reconnect=1,tls-creds=t", "Expected TLS credentials for a client endpoint")]
    [InlineData("server=on,wait=off,websocket=on,tls-creds=t", "tls-creds= together with telnet=on or websocket=on")]
    public void Sockets_that_do_not_fit_say_why(string options, string message)
    {
        using var credentials = new TlsCredentials(_folder, isServer: true, verifiesPeer: true, null);
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => _bench.Open(SocketChar.Model,
            $"path={_bench.Path},{options}", ("t", credentials))).Message);
    }

    void Serve(bool verifies) => _bench.Open(SocketChar.Model, $"path={_bench.Path},server=on,wait=off,tls-creds=t",
        ("t", new TlsCredentials(_folder, isServer: true, verifies, null)));

    /// <param name="folder">Of the client's certificate; null: it has none.</param>
    async Task<SslStream> Connect(string? folder)
    {
        var stream = new SslStream(new NetworkStream(_bench.Client(), ownsSocket: true));
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = "localhost",
            RemoteCertificateValidationCallback = static (_, _, _, _) => true,
        };
        if (folder != null) options.ClientCertificates = [X509Certificate2.CreateFromPemFile(
            $"{folder}/client-cert.pem", $"{folder}/client-key.pem")];
        await stream.AuthenticateAsClientAsync(options).WaitAsync(s_patience);
        return stream;
    }

    static async Task<string> Read(Stream stream, int count)
    {
        var data = new byte[count];
        await stream.ReadExactlyAsync(data).AsTask().WaitAsync(s_patience);
        return Encoding.ASCII.GetString(data);
    }

    sealed class OpensslFactAttribute() : ConditionalFactAttribute(File.Exists("/usr/bin/openssl") ? null
        : "needs openssl (Debian: openssl)");
}
