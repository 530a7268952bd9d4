using System.Net.Security;
using System.Runtime.InteropServices;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Qkvm.Host.Sockets;

/// <summary>Who we are to the other end of a TLS connection, and whom we trust: X.509 certificates in a directory, with
/// QEMU's file names.</summary>
public sealed class TlsCredentials : IDisposable
{
    const string Unknown = "The certificate hasn't got a known issuer";

    readonly X509Certificate2Collection _trusted = [];
    readonly X509Certificate2? _own;
    readonly bool _verifiesPeer, _trustsHost;

    /// <summary>Reads ca-cert.pem, and server-cert.pem and server-key.pem or client-cert.pem and client-key.pem, which
    /// a client need not have.</summary>
    /// <param name="password">Of the key; null where it needs none.</param>
    /// <exception cref="IOException">What is missing or wrong.</exception>
    public TlsCredentials(string directory, bool isServer, bool verifiesPeer, string? password)
    {
        (IsServer, _verifiesPeer) = (isServer, verifiesPeer);
        RequireLibrary();
        string side = isServer ? "server" : "client", authority = Path.Combine(directory, "ca-cert.pem"),
            certificate = Path.Combine(directory, $"{side}-cert.pem"), key = Path.Combine(directory, $"{side}-key.pem");
        if (File.Exists(Path.Combine(directory, "ca-crl.pem")))
            throw new IOException($"{directory}/ca-crl.pem: lists of revoked certificates are not built yet; "
                + "take the file away");
        if (verifiesPeer || File.Exists(authority)) Read(authority, () => _trusted.ImportFromPemFile(authority));
        if (!isServer && !File.Exists(certificate)) return;
        Read(certificate, () => File.OpenRead(certificate).Dispose());
        _own = Read(key, () =>
        {
            File.OpenRead(key).Dispose();
            return password == null ? X509Certificate2.CreateFromPemFile(certificate, key)
                : X509Certificate2.CreateFromEncryptedPemFile(certificate, password, key);
        });
    }

    TlsCredentials(bool verifiesPeer)
    {
        _verifiesPeer = verifiesPeer;
        _trustsHost = true;
        RequireLibrary();
    }

    /// <summary>A client without a certificate, which trusts whom this machine trusts.</summary>
    /// <param name="verifiesPeer">False: it trusts everybody.</param>
    /// <exception cref="IOException">OpenSSL is missing.</exception>
    public static TlsCredentials OfThisMachine(bool verifiesPeer) => new(verifiesPeer);

    public bool IsServer { get; }

    /// <summary>The other end has to show a certificate that it trusts.</summary>
    public bool VerifiesPeer => _verifiesPeer;

    public void Dispose()
    {
        _own?.Dispose();
        foreach (X509Certificate2 trusted in _trusted) trusted.Dispose();
    }

    /// <summary>Shakes hands with the other end.</summary>
    /// <param name="host">A client's name for the server, which its certificate must have; null: any that our
    /// authority has signed.</param>
    /// <exception cref="AuthenticationException">Why not.</exception>
    internal async Task ShakeHandsAsync(SslStream stream, string? host, CancellationToken patience)
    {
        string? wrong = null;
        bool Accept(object sender, X509Certificate? peer, X509Chain? chain, SslPolicyErrors errors) =>
            (wrong = _verifiesPeer ? Complaint(peer, errors, host) : null) == null;

        try
        {
            await (IsServer
                ? stream.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
                {
                    ServerCertificate = _own,
                    ClientCertificateRequired = _verifiesPeer,
                    CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                    RemoteCertificateValidationCallback = Accept,
                }, patience)
                : stream.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
                {
                    TargetHost = host ?? "",
                    ClientCertificates = _own == null ? null : [_own],
                    CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                    RemoteCertificateValidationCallback = Accept,
                }, patience)).ConfigureAwait(false);
        }
        catch (AuthenticationException e) when (wrong != null) { throw new AuthenticationException(wrong, e); }
    }

    /// <summary>Why the other end's certificate is none for us; null: it is good.</summary>
    /// <param name="host">As of <see cref="ShakeHandsAsync"/>.</param>
    string? Complaint(X509Certificate? peer, SslPolicyErrors errors, string? host)
    {
        if (peer is not X509Certificate2 certificate) return "No certificate was found";
        if (host != null && (errors & SslPolicyErrors.RemoteCertificateNameMismatch) != 0)
            return $"Certificate does not match the hostname {host}";
        if (_trustsHost)
            return errors == SslPolicyErrors.None ? null : $"server certificate verification failed: {Unknown}";
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(_trusted);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;      // what a peer says takes us nowhere
        chain.ChainPolicy.ApplicationPolicy.Add(new Oid(IsServer ? "1.3.6.1.5.5.7.3.2" : "1.3.6.1.5.5.7.3.1"));
        if (chain.Build(certificate)) return null;
        return Array.Exists(chain.ChainStatus, one => one.Status == X509ChainStatusFlags.NotTimeValid)
            ? "The certificate has expired or is not valid yet" : Unknown;
    }

    /// <summary>The runtime ends the process where it finds no OpenSSL: it is looked for before.</summary>
    static void RequireLibrary()
    {
        foreach (string name in new[] { "libssl.so.3", "libssl.so.1.1", "libssl.so.1.0.2", "libssl.so.1.0.0" })
            if (NativeLibrary.TryLoad(name, out _)) return;
        throw new IOException("needs OpenSSL's libssl.so.3 (Debian: libssl3)");
    }

    static void Read(string path, Action read) => Read(path, () => { read(); return true; });

    static T Read<T>(string path, Func<T> read)
    {
        try { return read(); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException
            or ArgumentException)
        {
            throw new IOException($"cannot read {path}: {e.Message}", e);
        }
    }
}
