using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Files for guests that boot from the network. RFC 1350.</summary>
sealed class Tftp(UserStack stack)
{
    public void Input(IpEndpoint guest, IpEndpoint to, ReadOnlySpan<byte> data, MacAddress from) { _ = stack; }
}
