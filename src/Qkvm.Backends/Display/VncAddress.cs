using Qkvm.Backends.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>Who may watch together: share=.</summary>
public enum VncSharing
{
    /// <summary>A viewer that asks for the screen alone ends the others.</summary>
    AllowExclusive,
    /// <summary>A viewer that asks for the screen alone is refused.</summary>
    ForceShared,
    /// <summary>Whoever comes may watch.</summary>
    Ignore,
}

/// <summary>Where -vnc listens: <c>host:d</c> for port 5900 + d, <c>:d</c> for all interfaces, <c>unix:path</c>.</summary>
/// <param name="Last">Displays from Display to this one are tried.</param>
public sealed record VncAddress(string? Path, string Host, int Display, int Last, string Owner)
{
    public const int FirstPort = 5900;

    public VncSharing Sharing { get; private init; }

    /// <summary>The name that `info vnc` shows.</summary>
    public string Id { get; private init; } = "default";

    /// <summary>A range was given: the user must be told which port it became.</summary>
    public bool IsRange { get; private init; }

    bool? Ipv4 { get; init; }
    bool? Ipv6 { get; init; }

    /// <exception cref="ConfigurationException">A bad address or option.</exception>
    public static VncAddress Parse(DisplayConfig config)
    {
        var options = new OptionReader(config.Options, config.Owner);
        RefuseWhatIsNotBuilt(options, config.Owner);
        string? to = options.Text("to");
        VncSharing sharing = options.Text("share") switch
        {
            null or "allow-exclusive" => VncSharing.AllowExclusive,
            "force-shared" => VncSharing.ForceShared,
            "ignore" => VncSharing.Ignore,
            string other => throw new ConfigurationException($"{config.Owner}: share={other}: expects allow-exclusive, force-shared or ignore"),
        };
        string id = options.Text("id") ?? "default";
        bool? ipv4 = options.OptionalBool("ipv4"), ipv6 = options.OptionalBool("ipv6");
        options.Text("audiodev");                                  // sound is not carried; guests may name a device for it
        options.Close();
        const string Expected = "expects host:display (port 5900 + display), such as localhost:0 or :1, or unix:/path, or none";
        if (config.Address.StartsWith("unix:", StringComparison.Ordinal))
        {
            string path = config.Address["unix:".Length..];
            if (path.Length == 0) throw new ConfigurationException($"{config.Owner}: {Expected}");
            return new VncAddress(path, "", 0, 0, config.Owner) { Sharing = sharing, Id = id };
        }
        int colon = config.Address.LastIndexOf(':');
        if (colon < 0) throw new ConfigurationException($"{config.Owner}: no vnc port specified; {Expected}");
        string host = config.Address[..colon].Trim('[', ']');
        int display = DisplayNumber(config.Address[(colon + 1)..], "the display", config.Owner);
        // QEMU's to= is the last display to try.
        int last = to == null ? display : DisplayNumber(to, "to", config.Owner);
        if (last < display) throw new ConfigurationException($"{config.Owner}: to={to}: lies before display {display}");
        return new VncAddress(null, host, display, last, config.Owner) { Sharing = sharing, Id = id, IsRange = to != null, Ipv4 = ipv4, Ipv6 = ipv6 };
    }

    static void RefuseWhatIsNotBuilt(OptionReader options, string owner)
    {
        foreach (string name in new[] { "password", "sasl", "tls", "reverse", "websocket", "acl", "lossy" })
            if (options.Text(name) is { } value && value is not ("off" or "no"))
                throw new ConfigurationException($"{owner}: {name}={value}: is not built yet; leave it out"
                    + (name is "password" or "sasl" or "tls" ? ", listen on localhost or unix:/path, and reach it through ssh" : ""));
        foreach (string name in new[] { "password-secret", "tls-creds", "tls-authz", "sasl-authz", "display", "head", "power-control" })
            if (options.Text(name) is { } value && value is not ("off" or "no"))
                throw new ConfigurationException($"{owner}: {name}={value}: is not built yet; leave it out");
        foreach (string name in new[] { "non-adaptive", "lock-key-sync", "key-delay-ms" }) options.Text(name); // no effect here
    }

    static int DisplayNumber(string text, string what, string owner) =>
        int.TryParse(text, out int number) && number is >= 0 and <= ushort.MaxValue - FirstPort ? number
            : throw new ConfigurationException($"{owner}: {what} '{text}' is no number from 0 to {ushort.MaxValue - FirstPort}; port 5900 is display 0");

    /// <summary>The same as a socket's address.</summary>
    public SocketAddress Address => Path != null ? new UnixAddress(Path) : new InternetAddress(Host, FirstPort + Display, FirstPort + Last, Ipv4, Ipv6);
}
