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

/// <summary>Where -vnc listens and what it is to do: <c>host:d</c> for port 5900 + d, <c>:d</c> for all interfaces,
/// <c>unix:path</c>.</summary>
/// <param name="Last">Displays from Display to this one are tried.</param>
public sealed record VncOptions(string? Path, string Host, int Display, int Last, string Owner)
{
    public const int FirstPort = 5900;

    public VncSharing Sharing { get; private init; }

    /// <summary>The name that `info vnc` shows.</summary>
    public string Id { get; private init; } = "default";

    /// <summary>A range was given: the user must be told which port it became.</summary>
    public bool IsRange { get; private init; }

    /// <summary>lock-key-sync: a viewer's Caps Lock and Num Lock become the guest's.</summary>
    public bool SyncsLocks { get; private init; } = true;

    /// <summary>key-delay-ms: between one key event and the next.</summary>
    public int KeyDelay { get; private init; }

    const int MaxKeyDelay = 60_000;

    /// <summary>reverse=on: it connects to a viewer that listens, at a port of this number.</summary>
    public bool IsReverse { get; private init; }

    /// <summary>power-control=on.</summary>
    public bool HasPower { get; private init; }

    /// <summary>lossy=on.</summary>
    public bool IsLossy { get; private init; }

    /// <summary>websocket=: the port for browsers; null for none.</summary>
    public int? WebPort { get; private init; }

    const int FirstWebPort = 5700;

    bool? Ipv4 { get; init; }
    bool? Ipv6 { get; init; }

    static readonly string[] ThroughSsh = ["sasl", "tls", "tls-authz", "sasl-authz"];

    /// <summary>What -vnc takes.</summary>
    internal static readonly Property[] Declared =
    [
        Property.Text("vnc", help: "host:display, unix:path or none"), Property.Text("to", help: "last display to try"),
        Property.Text("id", "default"), Property.Enum("share", "allow-exclusive",
            ["allow-exclusive", "force-shared", "ignore"]),
        Property.OnOffAuto("ipv4"), Property.OnOffAuto("ipv6"),
        Property.Text("audiodev", help: "an -audiodev; viewers do not hear it yet"),
        Property.Bool("non-adaptive", false, "pictures are always exact: no encoding here depends on it"),
        Property.Bool("lossy", false, "viewers that ask for less quality get JPEG"),
        Property.Bool("lock-key-sync", true, "bring the guest's locks into step with the viewer's"),
        Property.Number("key-delay-ms", 10, 0, MaxKeyDelay, "between key events, of the guest's time"),
        Property.Bool("password", false, "viewers are asked for the password that set_password gives"),
        Property.Text("password-secret", help: "the id of an object with that password"),
        Property.Bool("power-control", false, "viewers may press the machine's buttons"),
        Property.Text("tls-creds", help: "the id of an object with certificates"),
        Property.Bool("reverse", false, "connect to a viewer that listens at host:port"),
        Property.Text("websocket", help: "on, for port 5700 + display, or a port: for browsers"),
        .. ThroughSsh.Select(name => Property.Missing(name, "off",
            "leave it out, listen on localhost or unix:/path, and reach it through ssh")),
        .. new[] { "acl", "display", "head" }.Select(name =>
            Property.Missing(name, "off")),
    ];

    /// <exception cref="ConfigurationException">A bad address or option.</exception>
    public static VncOptions Parse(Properties options)
    {
        string owner = options.Owner, address = options.Text("vnc") ?? "";
        var common = new VncOptions(null, "", 0, 0, owner)
        {
            Sharing = options.Text("share") switch
            {
                "force-shared" => VncSharing.ForceShared,
                "ignore" => VncSharing.Ignore,
                _ => VncSharing.AllowExclusive,
            },
            Id = options.Required("id"),
            Ipv4 = options.OnOffAuto("ipv4"),
            Ipv6 = options.OnOffAuto("ipv6"),
            SyncsLocks = options.Bool("lock-key-sync"),
            KeyDelay = (int)options.Number("key-delay-ms"),
            IsReverse = options.Bool("reverse"),
            IsLossy = options.Bool("lossy"),
            HasPower = options.Bool("power-control"),
        };
        const string Expected = "expects host:display (port 5900 + display), such as localhost:0 or :1, or " +
            "unix:/path, or none";
        if (address.StartsWith("unix:", StringComparison.Ordinal))
        {
            string path = address["unix:".Length..];
            if (path.Length == 0) throw new ConfigurationException($"{owner}: {Expected}");
            if (options.Has("websocket"))
                throw options.Error("websocket= needs a port: give host:display in the place of unix:");
            return common with { Path = path };
        }
        int colon = address.LastIndexOf(':');
        if (colon < 0) throw new ConfigurationException($"{owner}: no vnc port specified; {Expected}");
        common = common with { Host = address[..colon].Trim('[', ']') };
        string number = address[(colon + 1)..];
        if (common.IsReverse)                                      // a port
            return ushort.TryParse(number, out ushort port) ? common with { Display = port }
                : throw options.Error($"reverse=on connects to host:port, and '{number}' is no port");
        int display = DisplayNumber(number, "the display", owner);
        // QEMU's to= is the last display to try.
        string? to = options.Text("to");
        int last = to == null ? display : DisplayNumber(to, "to", owner);
        if (last < display) throw new ConfigurationException($"{owner}: to={to}: lies before display {display}");
        return common with
        {
            Display = display, Last = last, IsRange = to != null, WebPort = WebPortOf(options, display),
        };
    }

    static int? WebPortOf(Properties options, int display) => options.Text("websocket") switch
    {
        null or "off" => null,
        "on" or "" => FirstWebPort + display,
        var text when ushort.TryParse(text, out ushort port) => port,
        _ => throw options.Error("websocket= is on, off or a port, such as 5700"),
    };

    static int DisplayNumber(string text, string what, string owner) =>
        int.TryParse(text, out int number) && number is >= 0 and <= ushort.MaxValue - FirstPort ? number
            : throw new ConfigurationException($"{owner}: {what} '{text}' is no number from 0 to " +
            $"{ushort.MaxValue - FirstPort}; port 5900 is display 0");

    /// <summary>The same as a socket's address.</summary>
    public SocketAddress Address => Path != null ? new UnixAddress(Path)
        : IsReverse ? new InternetAddress(Host, Display, Ipv4: Ipv4, Ipv6: Ipv6)
        : new InternetAddress(Host, FirstPort + Display, FirstPort + Last, Ipv4, Ipv6);

    /// <summary>For browsers.</summary>
    public InternetAddress? WebAddress => WebPort is not { } port ? null
        : new(Host, port, port == FirstWebPort + Display ? FirstWebPort + Last : port, Ipv4, Ipv6);
}
