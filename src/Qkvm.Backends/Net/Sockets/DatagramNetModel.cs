using System.Net;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host.Sockets;
using SocketAddress = Qkvm.Host.Sockets.SocketAddress;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>-netdev dgram: a cable of datagrams, UDP or UNIX, or a multicast group.</summary>
public static class DatagramNetModel
{
    public static readonly NetModel Model = new("dgram",
        [
            Property.Tree("local", "local.type=inet, host, port; unix, path; or fd, str"),
            Property.Tree("remote", "remote.type=inet, host, port, also a group's; or unix, path"),
        ],
        static (given, host) =>
        {
            SocketAddress? local = NetAddress.Read(given, "local", host),
                remote = NetAddress.Read(given, "remote", host);
            (DatagramSocket socket, string description) = NetAddress.Guarded(given, () => Open(given, local, remote));
            return new DatagramNet(given.Required("id"), "dgram", socket, description);
        }) { Description = "a cable of datagrams, UDP or UNIX, or a multicast group" };

    static (DatagramSocket Socket, string Description) Open(Properties given, SocketAddress? local,
        SocketAddress? remote)
    {
        if (remote is InternetAddress group && NetAddress.IsGroup(group))
        {
            IPAddress? near = null;
            if (local is InternetAddress { Host: var text } && !IPAddress.TryParse(text, out near)
                || local is not (null or InternetAddress))
                throw given.Error($"local={local}: with a group it is the address of an interface");
            return (DatagramSocket.Join(group, near), $"mcast={group}");
        }
        if (local is DescriptorAddress { Fd: var fd })
            return remote == null ? (DatagramSocket.Inherit(fd), $"fd={fd}")
                : throw given.Error("remote= does not go with local.type=fd, whose socket is connected");
        if (local == null) throw given.Error("dgram requires local= parameter");
        if (remote == null) throw given.Error("dgram requires remote= parameter");
        if (local.GetType() != remote.GetType()) throw given.Error("local.type and remote.type must be the same");
        return (DatagramSocket.Open(local, remote), local is UnixAddress ? $"unix={local}:{remote}"
            : $"udp={local}/{remote}");
    }
}
