using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Qkvm.Testing;

/// <summary>An authority of the tests', and who it has signed: files as -object tls-creds-x509 reads them.</summary>
public static class TestCertificates
{
    const string ServerUse = "1.3.6.1.5.5.7.3.1", ClientUse = "1.3.6.1.5.5.7.3.2";

    /// <summary>A server and a client, both "localhost".</summary>
    public static void WriteAll(string folder)
    {
        Directory.CreateDirectory(folder);
        DateTimeOffset now = DateTimeOffset.UtcNow;
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=authority", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using X509Certificate2 authority = request.CreateSelfSigned(now.AddDays(-1), now.AddDays(9));
        File.WriteAllText($"{folder}/ca-cert.pem", authority.ExportCertificatePem());
        foreach ((string side, string use) in new[] { ("server", ServerUse), ("client", ClientUse) })
        {
            using var own = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var asked = new CertificateRequest($"CN={side}", own, HashAlgorithmName.SHA256);
            asked.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(use)], false));
            var names = new SubjectAlternativeNameBuilder();
            names.AddDnsName("localhost");
            asked.CertificateExtensions.Add(names.Build());
            using X509Certificate2 signed = asked.Create(authority, now.AddHours(-1), now.AddDays(8),
                RandomNumberGenerator.GetBytes(8));
            File.WriteAllText($"{folder}/{side}-cert.pem", signed.ExportCertificatePem());
            File.WriteAllText($"{folder}/{side}-key.pem", own.ExportPkcs8PrivateKeyPem());
        }
    }
}
