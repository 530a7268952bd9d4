using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>-netdev stream: a cable over a connection, TCP or UNIX.</summary>
public static class StreamNetModel
{
    public static readonly NetModel Model = new("stream",
        [
            Property.Tree("addr", "addr.type=inet, host, port; unix, path; or fd, str"),
            Property.Bool("server", false, "listens, instead of connecting"),
            Property.Automatic("reconnect", 1, int.MaxValue / 1000, "seconds until a client tries again"),
            Property.Automatic("reconnect-ms", 1, int.MaxValue, "the same in milliseconds"),
        ],
        static (given, host) =>
        {
            SocketAddress address = NetAddress.Read(given, "addr", host)
                ?? throw given.Error("Parameter 'addr' is missing: addr.type=inet,addr.host=H,addr.port=P or "
                    + "addr.type=unix,addr.path=FILE");
            ulong? seconds = given.NumberOrAuto("reconnect"), milliseconds = given.NumberOrAuto("reconnect-ms");
            bool isServer = given.Bool("server");
            if (seconds != null && milliseconds != null)
                throw given.Error("'reconnect' and 'reconnect-ms' are mutually exclusive");
            if ((seconds ?? milliseconds) != null && (isServer || address is DescriptorAddress))
                throw given.Error("'reconnect' is for a client that has an address to connect to");
            var pause = TimeSpan.FromMilliseconds(seconds * 1000 ?? milliseconds ?? 0);
            return new StreamNet(given.Owner, new StreamNetOptions(given.Required("id"), "stream", address, isServer,
                pause), host.Loop);
        }) { Description = "a cable over a connection, TCP or UNIX" };
}
