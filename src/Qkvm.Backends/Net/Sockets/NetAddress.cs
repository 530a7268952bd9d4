using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using SocketAddress = Qkvm.Host.Sockets.SocketAddress;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>Addresses as -netdev takes them: QEMU's SocketAddress below a name, and host:port.</summary>
static class NetAddress
{
    /// <summary>addr.type=inet,addr.host=,addr.port=; or unix and path=; or fd and str=. Null: nothing is
    /// said.</summary>
    public static SocketAddress? Read(Properties given, string name, IBackendHost host)
    {
        if (given.Tree(name) is not { } tree) return null;
        string type = tree.Text("type") ?? throw given.Error($"Parameter '{name}.type' is missing: inet, unix or fd");
        SocketAddress address = type switch
        {
            "inet" => new InternetAddress(tree.Required("host"), Port(given, $"{name}.port", tree.Required("port")),
                tree.Int("to", 0, ushort.MaxValue), tree.Bool("ipv4"), tree.Bool("ipv6")),
            "unix" => new UnixAddress(tree.Required("path"), tree.Bool("abstract") == true),
            "fd" => new DescriptorAddress(host.Descriptors.Take(tree.Required("str"), given.Owner)),
            _ => throw given.Error($"{name}.type={type}: one of inet, unix, fd is expected"),
        };
        tree.Bool("tight");
        if (tree.Bool("keep-alive") == true || tree.Bool("mptcp") == true)
            throw given.Error($"{name}.keep-alive and {name}.mptcp are not built yet; leave them out");
        tree.Close();
        return address;
    }

    /// <summary>"127.0.0.1:1234", "[::1]:1234", ":1234".</summary>
    public static InternetAddress Parse(Properties given, string name)
    {
        string text = given.Required(name);
        int colon = text.LastIndexOf(':');
        if (colon < 0)
            throw given.Error($"{name}={text}: host address '{text}' doesn't contain ':' separating host from port");
        return new InternetAddress(text[..colon].Trim('[', ']'), Port(given, name, text[(colon + 1)..]));
    }

    /// <summary>What is wrong at the host is wrong with the option.</summary>
    public static T Guarded<T>(Properties given, Func<T> open)
    {
        try { return open(); }
        catch (HostException e)
        {
            string hint = e.Errno == Libc.EAddrInUse ? "; another program uses it: choose another address" : "";
            throw given.Error($"{e.Message}{hint}", e);
        }
        catch (SocketException e) { throw given.Error(e.Message, e); }
    }

    public static bool IsGroup(SocketAddress? address) => address is InternetAddress { Host: var name }
        && IPAddress.TryParse(name, out IPAddress? ip) && IpAddress.Of(ip) is { IsV4: true, IsMulticast: true };

    public static int Port(Properties given, string name, string text) =>
        ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ushort port) ? port
            : throw given.Error($"{name}: '{text}' is no port, a number from 0 to 65535");
}
