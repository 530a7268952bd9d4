using Qkvm.Core.Block.Throttling;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Graph;

/// <summary>What -object made, for drivers that name it.</summary>
public sealed partial class BlockFactory
{
    /// <summary>What -object secret of an id holds.</summary>
    public Func<string, byte[]?> Secrets { get; set; } = static _ => null;

    /// <summary>The credentials that -object tls-creds-x509 of an id has; null for none.</summary>
    public Func<string, TlsCredentials?> Credentials { get; set; } = static _ => null;

    /// <summary>A new member of the throttle group of a name; null: there is no such group.</summary>
    public Func<string, ThrottleMember?> JoinThrottle { get; set; } = static _ => null;

    /// <exception cref="ConfigurationException">There is no such object, or it is for the other end.</exception>
    public TlsCredentials CredentialsOf(string id, bool isServer)
    {
        TlsCredentials found = Credentials(id)
            ?? throw new ConfigurationException($"No TLS credentials with id '{id}'");
        return found.IsServer == isServer ? found : throw new ConfigurationException(
            $"Expecting TLS credentials with a {(isServer ? "server" : "client")} endpoint");
    }

    /// <summary>What -object secret of that id holds.</summary>
    public byte[] Secret(string id) =>
        Secrets(id) ?? throw new ConfigurationException($"No secret with id '{id}'");
}
