using System.Text;
using Qkvm.Core.Machine;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Objects;

/// <summary>-object tls-creds-x509: certificates, for sockets that name it by tls-creds=.</summary>
public static class TlsCredentialsX509
{
    const string Server = "server";

    public static readonly ObjectModel Model = new("tls-creds-x509",
        [Property.Text("dir", help: "of ca-cert.pem, and server-cert.pem and server-key.pem or client-…"),
            Property.Enum("endpoint", "client", [Server, "client"]),
            Property.Bool("verify-peer", true, "the other end must have a certificate that ca-cert.pem has signed"),
            Property.Text("passwordid", help: "the id of a secret: the key's password"),
            Property.Bool("sanity-check", true, "certificates are checked when they are used in any case"),
            Property.Missing("priority", remedy: "OpenSSL's configuration says which protocols are used; leave it out"),
            Property.Missing("loaded")],
        Create) { Description = "certificates for TLS" };

    static TlsCredentials Create(Properties properties, IBackendHost host) => Read(properties, id =>
    {
        Secret secret = host.Backends.FindObject<Secret>(id, "a secret", properties.Owner);
        host.Backends.ReleaseObject(id);
        return secret.Value;
    });

    /// <summary>The certificates that properties name.</summary>
    /// <param name="secret">What a secret of an id holds.</param>
    public static TlsCredentials Read(Properties properties, Func<string, byte[]> secret)
    {
        string directory = properties.Text("dir") ?? throw properties.Error("needs dir=");
        string? password = properties.Text("passwordid") is { } id ? Encoding.UTF8.GetString(secret(id)) : null;
        try
        {
            return new TlsCredentials(directory, properties.Text("endpoint") == Server,
                properties.Bool("verify-peer"), password);
        }
        catch (IOException e) { throw properties.Error(e.Message, e); }
    }
}
