using System.Globalization;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

public enum ForwardKind { Tcp, Udp, Unix }

/// <summary>hostfwd=: what comes to a port of the host goes to the guest.</summary>
/// <param name="Host">Where the host listens; of no meaning for <see cref="ForwardKind.Unix"/>.</param>
/// <param name="Path">Of a UNIX socket.</param>
public sealed record HostForward(ForwardKind Kind, IpEndpoint Host, IpEndpoint Guest, string? Path = null)
{
    public override string ToString() => $"{Side}-{Guest}";

    /// <summary>The host's side of it, by which monitors remove it: "tcp:127.0.0.1:2222".</summary>
    public string Side => Kind == ForwardKind.Unix ? $"unix:{Path}"
        : $"{(Kind == ForwardKind.Tcp ? "tcp" : "udp")}:{Host}";

    /// <summary>[tcp|udp]:[address]:port-[address]:port or unix:path-[address]:port.</summary>
    /// <param name="guest">Where it leads if the rule names no address of the guest.</param>
    /// <exception cref="FormatException">What is wrong with it.</exception>
    public static HostForward Parse(string rule, IpAddress guest)
    {
        // Paths and addresses of IPv6 may have dashes and colons: the guest's side has no dash.
        int dash = rule.LastIndexOf('-');
        if (dash < 0) throw new FormatException("Missing - separator");
        (ForwardKind kind, IpEndpoint host, string? path) = ParseSide(rule[..dash]);
        IpEndpoint to = ParseEnd(rule[(dash + 1)..], guest, "guest");
        return to.Port != 0 ? new HostForward(kind, host, to, path) : throw new FormatException("Bad guest port");
    }

    /// <summary>What stands in front of the dash.</summary>
    /// <exception cref="FormatException">What is wrong with it.</exception>
    public static (ForwardKind Kind, IpEndpoint Host, string? Path) ParseSide(string text)
    {
        int colon = text.IndexOf(':');
        string protocol = colon < 0 ? throw new FormatException("Missing : separator") : text[..colon];
        string rest = text[(colon + 1)..];
        return protocol switch
        {
            "unix" => (ForwardKind.Unix, default, rest.Length > 0 ? rest : throw new FormatException("Bad path")),
            "tcp" or "" => (ForwardKind.Tcp, ParseEnd(rest, IpAddress.V4(0), "host"), null),
            "udp" => (ForwardKind.Udp, ParseEnd(rest, IpAddress.V4(0), "host"), null),
            _ => throw new FormatException("Bad protocol name"),
        };
    }

    /// <summary>[address]:port, where an address of IPv6 stands in brackets.</summary>
    /// <param name="side">"host" or "guest", for messages.</param>
    public static IpEndpoint ParseEnd(string text, IpAddress implied, string side)
    {
        int colon = text.LastIndexOf(':');
        if (colon < 0) throw new FormatException("Missing : separator");
        string name = text[..colon];
        bool isBracketed = name.StartsWith('[') && name.EndsWith(']');
        IpAddress address = implied;
        // Four numbers or brackets: "1" and "0x7f.1" are addresses for some, and mistakes here.
        bool isGood = name.Length == 0 || (isBracketed ? IpAddress.TryParse(name[1..^1], out address) && !address.IsV4
            : name.Count(c => c == '.') == 3 && IpAddress.TryParse(name, out address) && address.IsV4);
        if (!isGood) throw new FormatException($"Bad {side} address");
        return ushort.TryParse(text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out ushort port)
            ? new IpEndpoint(address, port) : throw new FormatException($"Bad {side} port");
    }
}

/// <summary>guestfwd=: what the guest sends to an address of its network goes to a character device or a
/// program.</summary>
/// <param name="Command">Run by the shell for each connection; null for the character device.</param>
public sealed record GuestForward(IpEndpoint At, string? Chardev, string? Command)
{
    /// <summary>[tcp]:address:port-device or [tcp]:address:port-cmd:command.</summary>
    /// <exception cref="FormatException">What is wrong with it.</exception>
    public static GuestForward Parse(string rule)
    {
        string rest = rule.StartsWith("tcp:", StringComparison.Ordinal) ? rule[4..]
            : rule.StartsWith(':') ? rule[1..] : "";
        int dash = rest.IndexOf('-');
        if (dash < 0 || dash == rest.Length - 1)
            throw new FormatException("write for example tcp:10.0.2.100:80-cmd:cat or tcp:10.0.2.100:80-chardev:ID");
        IpEndpoint at = HostForward.ParseEnd(rest[..dash], IpAddress.V4(0), "server");
        string target = rest[(dash + 1)..];
        const string command = "cmd:", chardev = "chardev:";
        if (at.Port == 0) throw new FormatException("Bad server port");
        if (target.StartsWith(command, StringComparison.Ordinal)) return new(at, null, target[command.Length..]);
        if (target.StartsWith(chardev, StringComparison.Ordinal)) target = target[chardev.Length..];
        if (target.Contains(':'))
            throw new FormatException($"give the device by its id: -chardev …,id=fwd and chardev:fwd, not {target}");
        return new(at, target, null);
    }
}
