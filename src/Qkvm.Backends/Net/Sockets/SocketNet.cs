using System.Net;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host.Sockets;
using SocketAddress = Qkvm.Host.Sockets.SocketAddress;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>-netdev socket: a cable to another machine, over TCP, UDP or a multicast group.</summary>
public static class SocketNet
{
    static readonly string[] Ways = ["listen", "connect", "mcast", "udp", "fd"];

    public static readonly NetModel Model = new("socket",
        [
            Property.Text("listen", help: "[host]:port where the other end connects"),
            Property.Text("connect", help: "host:port where the other end listens"),
            Property.Text("mcast", help: "group:port, an address of IPv4 that several machines share"),
            Property.Text("udp", help: "host:port where the other end receives; needs localaddr="),
            Property.Text("localaddr", help: "of udp, host:port; of mcast, the interface's address"),
            Property.Text("fd", help: "an open socket"),
        ],
        static (given, host) => Create(given, host)) { Description = "a cable to another machine" };

    static NetBackend Create(Properties given, IBackendHost host)
    {
        string id = given.Required("id");
        string[] ways = [.. Ways.Where(given.Has)];
        if (ways.Length != 1)
            throw given.Error("exactly one of listen=, connect=, mcast=, udp= or fd= is required");
        if (given.Has("localaddr") && ways[0] is not ("mcast" or "udp"))
            throw given.Error($"localaddr= belongs to mcast= and udp=, not to {ways[0]}=");
        if (ways[0] == "fd")
        {
            int fd = host.Descriptors.Take(given.Required("fd"), given.Owner);
            return DatagramSocket.IsDatagram(fd) == true
                ? new DatagramNet(id, Model.Name, NetAddress.Guarded(given, () => DatagramSocket.Inherit(fd)),
                    $"socket: fd={fd}")
                : Stream(new DescriptorAddress(fd), isServer: false);
        }
        InternetAddress address = NetAddress.Parse(given, ways[0]);
        switch (ways[0])
        {
            case "listen" or "connect": return Stream(address, ways[0] == "listen");
            case "mcast":
                if (!NetAddress.IsGroup(address))
                    throw given.Error($"mcast={address}: its address must be one of a group: 224.0.0.0 to "
                        + "239.255.255.255");
                IPAddress? near = null;
                if (given.Text("localaddr") is { } text && !IPAddress.TryParse(text, out near))
                    throw given.Error($"localaddr={text} is no address of an interface");
                return new DatagramNet(id, Model.Name, NetAddress.Guarded(given,
                    () => DatagramSocket.Join(address, near)), $"socket: mcast={address}");
            default:
                if (!given.Has("localaddr")) throw given.Error("localaddr= is mandatory with udp=");
                InternetAddress local = NetAddress.Parse(given, "localaddr");
                return new DatagramNet(id, Model.Name, NetAddress.Guarded(given,
                    () => DatagramSocket.Open(local, address)), $"socket: udp={address}");
        }

        StreamNet Stream(SocketAddress at, bool isServer) =>
            new(given.Owner, new StreamNetOptions(id, Model.Name, at, isServer), host.Loop);
    }
}
