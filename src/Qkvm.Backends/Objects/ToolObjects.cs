using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Objects;

/// <summary>Objects of a command line without a machine, by their ids.</summary>
public sealed class ToolObjects
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
            _ when type == Objects.Secret.Model.Name =>
                Objects.Secret.Read(new Properties(Objects.Secret.Model, options)),
            _ when type == TlsCredentialsX509.Model.Name =>
                TlsCredentialsX509.Read(new Properties(TlsCredentialsX509.Model, options), password => Secret(password)
                    ?? throw new ConfigurationException($"No secret with id '{password}'")),
            _ => throw new ConfigurationException($"Parameter 'qom-type' does not accept value '{type}'; there are "
                + $"{Objects.Secret.Model.Name} and {TlsCredentialsX509.Model.Name}"),
        };
        if (!_made.TryAdd(id, made)) throw options.Error($"duplicate id '{id}' for object");
    }
}
