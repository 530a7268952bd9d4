using Qkvm.Backends.Objects;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>Who may watch, and how the bytes are carried. Spec: RFC 6143, section 7.2; VeNCrypt 0.2.</summary>
/// <param name="Password">Null: it asks for none.</param>
/// <param name="Credentials">Of TLS; null: the bytes go as they are.</param>
sealed record VncSecurity(VncPassword? Password, TlsCredentials? Credentials) : IDisposable
{
    public const byte None = 1, VncAuthentication = 2, VeNCrypt = 19;

    const int X509None = 260, X509Vnc = 261;

    Action? _release;                                              // the credentials are others' to remove

    /// <summary>By password=, password-secret= and tls-creds=.</summary>
    public static VncSecurity Of(Properties properties, MachineBackends backends)
    {
        VncPassword? password = properties.Bool("password") ? new VncPassword() : null;
        if (properties.Text("password-secret") is { } secret)
        {
            if (password != null)
                throw properties.Error("'password' flag is redundant with 'password-secret'; leave password=on out");
            password = new VncPassword();
            password.Set(backends.FindObject<Secret>(secret, "a secret", properties.Owner).Text);
            backends.ReleaseObject(secret);
        }
        if (properties.Text("tls-creds") is not { } id) return new VncSecurity(password, null);
        TlsCredentials found = backends.FindObject<TlsCredentials>(id, TlsCredentialsX509.Model.Name, properties.Owner);
        if (found.IsServer) return new VncSecurity(password, found) { _release = () => backends.ReleaseObject(id) };
        backends.ReleaseObject(id);
        throw properties.Error("Expecting TLS credentials with a server endpoint; give the object endpoint=server");
    }

    public bool HasPassword => Password != null;

    /// <summary>What viewers are offered.</summary>
    public byte Type => Credentials != null ? VeNCrypt : HasPassword ? VncAuthentication : None;

    /// <summary>The same inside VeNCrypt.</summary>
    public int SubType => HasPassword ? X509Vnc : X509None;

    /// <summary>Over a transport that is secret already.</summary>
    public VncSecurity Plain => this with { Credentials = null };

    /// <summary>Somebody else has looked at the viewer.</summary>
    public VncSecurity Open => new(null, null);

    public string Name => Type switch
    {
        VeNCrypt => "VeNCrypt",
        VncAuthentication => "VncAuth",
        _ => "None",
    };

    public RemoteAuth Auth
    {
        get
        {
            string inside = HasPassword ? "vnc" : "none";
            return Credentials == null ? new RemoteAuth(inside) : new RemoteAuth("vencrypt", inside);
        }
    }

    public bool Accepts(ReadOnlySpan<byte> challenge, ReadOnlySpan<byte> response) =>
        Password?.Accepts(challenge, response) ?? false;

    /// <summary>False where nobody is asked for one.</summary>
    public bool SetPassword(string? password)
    {
        Password?.Set(password);
        return HasPassword;
    }

    /// <summary>The same.</summary>
    public bool Expire(DateTimeOffset? when)
    {
        Password?.Expiry = when;
        return HasPassword;
    }

    public void Dispose()
    {
        _release?.Invoke();
        _release = null;
    }
}
