using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Where the guest's destinations are for the host, and the host's for the guest.</summary>
sealed class Routes(UserNetOptions options, Resolver resolver)
{
    const ushort DnsPort = 53;

    /// <summary>The host's own addresses in the guest's network.</summary>
    public bool IsOurs(IpAddress address) => address == options.Host || address == options.Nameserver
        || address == options.Host6 || address == options.Nameserver6;

    public bool IsNameserver(IpEndpoint to) => to.Port == DnsPort
        && (to.Address == options.Nameserver || to.Address == options.Nameserver6);

    /// <summary>In the guest's network: DHCP and stateless configuration give such addresses.</summary>
    public bool IsInside(IpAddress address) => address.IsV4 ? address.IsIn(options.Network, options.NetworkBits)
        : address.IsLinkLocal || address.IsIn(options.Prefix6, options.Prefix6Bits);

    /// <summary>False: the guest must not go there, or nobody can.</summary>
    public bool TryFind(IpEndpoint to, bool isTcp, out IpEndpoint real)
    {
        real = to;
        IpAddress address = to.Address;
        if (options.Restrict) return false;
        if (IsNameserver(to)) real = new IpEndpoint(resolver.Address, DnsPort);
        else if (address == options.Host) real = to with { Address = IpAddress.Loopback4 };
        else if (address == options.Host6) real = to with { Address = IpAddress.Loopback6 };
        else if (address == options.Nameserver || address == options.Nameserver6) return false;
        else return !address.IsLoopback && !address.IsUnspecified && !address.IsMulticast && !address.IsLinkLocal
            && address != IpAddress.V4(uint.MaxValue) && !IsBroadcast(address) && to.Port != 0;
        return to.Port != 0 || !isTcp;
    }

    /// <summary>Who sent it, as the guest knows it: this host's own programs are behind <c>host=</c>.</summary>
    public IpEndpoint FromHost(IpEndpoint client, bool isV4)
    {
        IpAddress address = client.Address;
        bool isOwn = address.IsLoopback || address.IsUnspecified || address.IsV4 != isV4;
        return isOwn ? client with { Address = isV4 ? options.Host : options.Host6 } : client;
    }

    bool IsBroadcast(IpAddress address) => address.IsV4 && options.NetworkBits < 31 && IsInside(address)
        && (address.V4Bits | options.Netmask.V4Bits) == uint.MaxValue;
}
