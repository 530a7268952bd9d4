using System.Net;
using System.Net.Sockets;

namespace Qkvm.Host.Sockets;

/// <summary>Where a socket listens or connects, as users write it.</summary>
public abstract record SocketAddress
{
    /// <summary>"127.0.0.1:3333", a path, "vsock:2:1234" or "fd:7".</summary>
    public sealed override string ToString() => Text;

    protected abstract string Text { get; }
}

/// <param name="Host">A name, a literal, or empty: all interfaces, or this machine for a client.</param>
/// <param name="Last">Ports from Port to this one are tried in turn.</param>
/// <param name="Ipv4">Null: whatever the host has.</param>
public sealed record InternetAddress(string Host, int Port, int? Last = null, bool? Ipv4 = null, bool? Ipv6 = null)
    : SocketAddress
{
    protected override string Text => $"{(Host.Contains(':') ? $"[{Host}]" : Host)}:{Port}";

    /// <summary>Literals at once, names by the host's resolver, which may wait. The best first.</summary>
    /// <exception cref="SocketException">The name is unknown.</exception>
    public IReadOnlyList<IPAddress> Resolve(bool listening)
    {
        IPAddress[] all = Host.Length == 0 && listening ? [IPAddress.IPv6Any, IPAddress.Any]
            : Host.Length == 0 || Host == "localhost" ? [IPAddress.IPv6Loopback, IPAddress.Loopback]
            : IPAddress.TryParse(Host, out IPAddress? literal) ? [literal] : Dns.GetHostAddresses(Host);
        return [.. all.Where(Fits)];
    }

    /// <summary>A family that one of ipv4= and ipv6= asks for alone excludes the other.</summary>
    bool Fits(IPAddress address) => address.AddressFamily == AddressFamily.InterNetworkV6 ? Ipv6 ?? Ipv4 != true : Ipv4
        ?? Ipv6 != true;
}

/// <param name="IsAbstract">In Linux's name space without files.</param>
/// <param name="IsTight">An abstract name ends where it ends; otherwise zeros fill sun_path up.</param>
public sealed record UnixAddress(string Path, bool IsAbstract = false, bool IsTight = true) : SocketAddress
{
    protected override string Text => Path;
}

/// <summary>Between a host and its guests. vsock(7).</summary>
public sealed record VsockAddress(uint Cid, uint Port) : SocketAddress
{
    protected override string Text => $"vsock:{Cid}:{Port}";
}

/// <summary>A socket that whoever started us opened: it listens already, or is connected.</summary>
public sealed record DescriptorAddress(int Fd) : SocketAddress
{
    protected override string Text => $"fd:{Fd}";
}
