using Qkvm.Backends.Objects;
using Qkvm.Host.Sockets;

namespace Qkvm.Nbd;

/// <summary>Objects of the tool's command line, by their ids.</summary>
sealed class NbdToolObjects
{
    readonly Dictionary<string, object> _made = new(StringComparer.Ordinal);

    public byte[]? Secret(string id) => (_made.GetValueOrDefault(id) as Secret)?.Value;

    public TlsCredentials? Credentials(string id) => _made.GetValueOrDefault(id) as TlsCredentials;

    /// <param name="text">As behind --object.</param>
    public void Add(string text)
    {
        Options options = Options.Parse(text, $"--object {text}", "qom-type");
        string type = options.Required("qom-type"), id = options.Required("id");
        Identifier.Check(id, options.Owner);
        object made = type switch
        {
            _ when type == Backends.Objects.Secret.Model.Name =>
                Backends.Objects.Secret.Read(new Properties(Backends.Objects.Secret.Model, options)),
            _ when type == TlsCredentialsX509.Model.Name =>
                TlsCredentialsX509.Read(new Properties(TlsCredentialsX509.Model, options), password => Secret(password)
                    ?? throw new ConfigurationException($"No secret with id '{password}'")),
            _ => throw new ConfigurationException($"Parameter 'qom-type' does not accept value '{type}'; there are "
                + $"{Backends.Objects.Secret.Model.Name} and {TlsCredentialsX509.Model.Name}"),
        };
        if (!_made.TryAdd(id, made)) throw options.Error($"duplicate id '{id}' for object");
    }
}
