using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>DHCPv6. RFC 8415.</summary>
sealed class Dhcp6(UserStack stack)
{
    public void Input(IpEndpoint guest, IpEndpoint to, ReadOnlySpan<byte> data, MacAddress from) { _ = stack; }
}
