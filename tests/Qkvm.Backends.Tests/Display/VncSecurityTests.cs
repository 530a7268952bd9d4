using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Qkvm.Backends.Display;
using Qkvm.Backends.Objects;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Host.Sockets;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Display;

/// <summary>Passwords, TLS, and viewers that listen. Spec: RFC 6143, section 7.2; VeNCrypt 0.2.</summary>
public sealed class VncSecurityTests : IDisposable
{
    const byte VncAuth = 2, VeNCrypt = 19;

    readonly string _folder = Directory.CreateTempSubdirectory("qkvm-vnc-").FullName;

    public VncSecurityTests() => TestCertificates.WriteAll(_folder);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>NIST SP 800-17, and the key that FIPS 81 uses.</summary>
    [Theory]
    [InlineData(0x0123456789ABCDEF, 0x4E6F772069732074, 0x3FA40E8A984D4815)]
    [InlineData(0x0101010101010101, 0x8000000000000000, 0x95F8A5E5DD31D900)]
    [InlineData(0x0101010101010101, 0x0000000000000001, 0x166B40B44ABA4BD6)]
    [InlineData(0x0131D9619DC1376E, 0x5CD54CA83DEF57DA, 0x7A389D10354BD271)]
    public void Des_is_as_published(ulong key, ulong text, ulong expected)
    {
        byte[] target = new byte[8];
        new Des(Bytes(key)).Encrypt(Bytes(text), target);
        Assert.Equal(Bytes(expected), target);

        static byte[] Bytes(ulong value)
        {
            byte[] bytes = BitConverter.GetBytes(value);
            Array.Reverse(bytes);
            return bytes;
        }
    }

    static VncBench WithPassword() => new(options: new OptionPair("password", "on"));

    static VncViewer Challenged(VncBench bench, out byte[] challenge, int minor = 8)
    {
        VncViewer viewer = bench.Connect();
        viewer.Receive(12);
        viewer.Send(Encoding.ASCII.GetBytes($"RFB 003.{minor:D3}\n"));
        if (minor == 3) Assert.Equal(VncAuth, viewer.Dword());
        else
        {
            Assert.Equal([1, VncAuth], viewer.Receive(2));
            viewer.Send(VncAuth);
        }
        challenge = viewer.Receive(16);
        return viewer;
    }

    /// <summary>"secret", bits of each byte from the other end, as the key.</summary>
    static byte[] ResponseTo(byte[] challenge)
    {
        var cipher = new Des([0xCE, 0xA6, 0xC6, 0x4E, 0xA6, 0x2E, 0, 0]);
        var response = new byte[16];
        for (int at = 0; at < 16; at += 8) cipher.Encrypt(challenge.AsSpan(at, 8), response.AsSpan(at, 8));
        return response;
    }

    [Theory]
    [InlineData(3)] [InlineData(7)] [InlineData(8)]
    public void Who_knows_the_password_may_watch(int minor)
    {
        using VncBench bench = WithPassword();
        Assert.True(bench.Ask(() => bench.Server.SetPassword("secret")));
        using VncViewer viewer = Challenged(bench, out byte[] challenge, minor);
        viewer.Send(ResponseTo(challenge));
        Assert.Equal(0, viewer.Dword());
        viewer.Begin();
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Theory]
    [InlineData(null, 0)] [InlineData("", 0)] [InlineData("other", 0)] [InlineData("secret", -5)]
    public void Nobody_else_may(string? password, int secondsLeft)
    {
        using VncBench bench = WithPassword();
        if (password != null) bench.Ask(() => bench.Server.SetPassword(password));
        if (secondsLeft < 0)
            bench.Ask(() => bench.Server.ExpirePassword(DateTimeOffset.UtcNow.AddSeconds(secondsLeft)));
        using VncViewer viewer = Challenged(bench, out byte[] challenge);
        viewer.Send(ResponseTo(challenge));
        Assert.Equal(1, viewer.Dword());
        Assert.Equal("Authentication failed", Encoding.ASCII.GetString(viewer.Receive(viewer.Dword())));
        viewer.AssertHungUp();
    }

    [Fact]
    public void Each_challenge_is_another()
    {
        using VncBench bench = WithPassword();
        using VncViewer one = Challenged(bench, out byte[] first), other = Challenged(bench, out byte[] second);
        Assert.NotEqual(first, second);
    }

    [Fact]
    public void A_server_without_passwords_takes_none()
    {
        using var bench = new VncBench();
        Assert.False(bench.Ask(() => bench.Server.SetPassword("secret")));
        Assert.False(bench.Ask(() => bench.Server.ExpirePassword(null)));
    }

    [Fact]
    public void Clients_of_monitors_hear_of_viewers()
    {
        using var bench = new VncBench();
        using (VncViewer viewer = bench.ConnectAndStart()) viewer.RequestAndRead(incremental: false);
        Assert.IsType<VncConnectedEvent>(bench.NextEvent());
        Assert.Equal("none", Assert.IsType<VncInitializedEvent>(bench.NextEvent()).Server.Auth);
        Assert.IsType<VncDisconnectedEvent>(bench.NextEvent());
    }

    // VeNCrypt

    VncBench WithTls() => new(options: new OptionPair("tls-creds", "tls0"),
        setUp: backends => backends.Objects["tls0"] = new TlsCredentials(_folder, isServer: true, verifiesPeer: false,
            password: null));

    static VncViewer AtVeNCrypt(VncBench bench, byte minor = 2)
    {
        VncViewer viewer = bench.Connect();
        viewer.Receive(12);
        viewer.Send("RFB 003.008\n"u8.ToArray());
        Assert.Equal([1, VeNCrypt], viewer.Receive(2));
        viewer.Send(VeNCrypt);
        Assert.Equal([0, 2], viewer.Receive(2));
        viewer.Send(0, minor);
        return viewer;
    }

    public static SslStream Secured(Stream below, string folder)
    {
        var secret = new SslStream(below);
        X509Certificate2 authority = X509CertificateLoader.LoadCertificateFromFile($"{folder}/ca-cert.pem");
        var trust = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust };
        trust.CustomTrustStore.Add(authority);
        trust.RevocationMode = X509RevocationMode.NoCheck;
        secret.AuthenticateAsClient(new SslClientAuthenticationOptions
        {
            TargetHost = "localhost", CertificateChainPolicy = trust,
        });
        return secret;
    }

    [Fact]
    public void A_viewer_watches_through_TLS()
    {
        using VncBench bench = WithTls();
        bench.DrawEverything();
        using VncViewer viewer = AtVeNCrypt(bench);
        Assert.Equal([0, 1, 0, 0, 1, 4], viewer.Receive(6));       // accepted; one type, X509None
        viewer.Send(0, 0, 1, 4);
        Assert.Equal([1], viewer.Receive(1));
        viewer.Layer(stream => Secured(stream, _folder));
        Assert.Equal(0, viewer.Dword());
        viewer.Begin();
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
        Assert.Equal("vencrypt+x509+none", bench.Ask(bench.Server.Query).Auth.FullName);
    }

    [Fact]
    public void A_version_that_is_not_there_ends()
    {
        using VncBench bench = WithTls();
        using VncViewer viewer = AtVeNCrypt(bench, minor: 1);
        Assert.Equal([1], viewer.Receive(1));
        viewer.AssertHungUp();
    }

    [Theory]
    [InlineData(new byte[] { 0, 0, 1, 0 })]                        // plain
    [InlineData(new byte[] { 0, 0, 1, 5 })]                        // with a password
    public void A_type_that_was_not_offered_ends(byte[] type)
    {
        using VncBench bench = WithTls();
        using VncViewer viewer = AtVeNCrypt(bench);
        viewer.Receive(6);
        viewer.Send(type);
        Assert.Equal([0], viewer.Receive(1));
        viewer.AssertHungUp();
    }

    [Theory]
    [InlineData("this is no handshake of TLS at all")] [InlineData("")]
    public void What_is_no_TLS_ends(string said)
    {
        using VncBench bench = new(handshakeLimit: TimeSpan.FromMilliseconds(300),
            options: new OptionPair("tls-creds", "tls0"), setUp: backends => backends.Objects["tls0"] =
                new TlsCredentials(_folder, isServer: true, verifiesPeer: false, password: null));
        using VncViewer viewer = AtVeNCrypt(bench);
        viewer.Receive(6);
        viewer.Send(0, 0, 1, 4);
        viewer.Receive(1);
        viewer.Send(Encoding.ASCII.GetBytes(said));
        viewer.AssertHungUp();
    }

    [Fact]
    public void A_viewer_of_version_3_3_is_told_that_it_is_too_old()
    {
        using VncBench bench = WithTls();
        using VncViewer viewer = bench.Connect();
        viewer.Receive(12);
        viewer.Send("RFB 003.003\n"u8.ToArray());
        Assert.Equal(0, viewer.Dword());
        Assert.Contains("VeNCrypt", Encoding.ASCII.GetString(viewer.Receive(viewer.Dword())));
        viewer.AssertHungUp();
    }

    // Viewers that listen

    [Fact]
    public void A_viewer_that_listens_is_connected_to()
    {
        using var waiting = new TcpListener(IPAddress.Loopback, 0);
        waiting.Start();
        using var bench = new VncBench(address: $"{waiting.LocalEndpoint}", options: new OptionPair("reverse", "on"));
        using var viewer = new VncViewer(new NetworkStream(waiting.AcceptSocket(), ownsSocket: true));
        viewer.Handshake(8);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Where_no_viewer_listens_there_is_a_hint()
    {
        using var free = new TcpListener(IPAddress.Loopback, 0);
        free.Start();
        string address = $"{free.LocalEndpoint}";
        free.Stop();
        var e = Assert.Throws<ConfigurationException>(() => new VncBench(address: address,
            options: new OptionPair("reverse", "on")).Dispose());
        Assert.Contains("-listen", e.Message);
    }
}
