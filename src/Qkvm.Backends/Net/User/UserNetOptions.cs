using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>-netdev user as users type it, with QEMU's defaults.</summary>
/// <param name="Network">net=: the guest's network, and the bits that its addresses share.</param>
/// <param name="Host">The address under which the guest reaches this host.</param>
/// <param name="DhcpStart">The first of the addresses that DHCP gives.</param>
/// <param name="Nameserver">The address under which the guest reaches the host's resolver.</param>
/// <param name="Restrict">The guest reaches nothing but forwarded ports.</param>
public sealed record UserNetOptions(string Id, IpAddress Network, int NetworkBits, IpAddress Host, IpAddress DhcpStart,
    IpAddress Nameserver)
{
    public bool Ipv4 { get; init; } = true;
    public bool Ipv6 { get; init; } = true;
    public bool Restrict { get; init; }

    public IpAddress Prefix6 { get; init; } = new((UInt128)0xFEC0 << 112);
    public int Prefix6Bits { get; init; } = 64;
    public IpAddress Host6 { get; init; } = new((UInt128)0xFEC0 << 112 | 2);
    public IpAddress Nameserver6 { get; init; } = new((UInt128)0xFEC0 << 112 | 3);

    /// <summary>What DHCP tells guests: its name, its domain, where to look for names.</summary>
    public string? HostName { get; init; }
    public string? DomainName { get; init; }
    public IReadOnlyList<string> SearchDomains { get; init; } = [];

    /// <summary>The folder whose files TFTP gives, or null.</summary>
    public string? TftpFolder { get; init; }
    public string? TftpServerName { get; init; }
    public string? BootFile { get; init; }

    public IReadOnlyList<HostForward> HostForwards { get; init; } = [];
    public IReadOnlyList<GuestForward> GuestForwards { get; init; } = [];

    /// <summary>Where the host's nameserver is named.</summary>
    public string ResolverFile { get; init; } = "/etc/resolv.conf";

    /// <summary>QEMU's network: 10.0.2.0/24, host .2, nameserver .3, DHCP from .15 on.</summary>
    public static UserNetOptions Default(string id) => new(id, IpAddress.V4(0x0A000200), 24, IpAddress.V4(0x0A000202),
        IpAddress.V4(0x0A00020F), IpAddress.V4(0x0A000203));

    public IpAddress Netmask => IpAddress.V4(NetworkBits == 0 ? 0 : uint.MaxValue << (32 - NetworkBits));
}
