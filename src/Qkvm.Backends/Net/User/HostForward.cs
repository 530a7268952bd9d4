using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

public enum ForwardKind { Tcp, Udp, Unix }

/// <summary>hostfwd=: what comes to a port of the host goes to the guest.</summary>
/// <param name="Host">Where the host listens; of no meaning for <see cref="ForwardKind.Unix"/>.</param>
/// <param name="Path">Of a UNIX socket.</param>
public sealed record HostForward(ForwardKind Kind, IpEndpoint Host, IpEndpoint Guest, string? Path = null)
{
    public override string ToString() => Kind == ForwardKind.Unix ? $"unix:{Path}-{Guest}"
        : $"{(Kind == ForwardKind.Tcp ? "tcp" : "udp")}:{Host}-{Guest}";
}

/// <summary>guestfwd=: what the guest sends to an address of its network goes to a character device or a
/// program.</summary>
/// <param name="Command">Run for each connection; null for the character device.</param>
public sealed record GuestForward(IpEndpoint At, string? Chardev, string? Command);
