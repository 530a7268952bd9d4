using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>-netdev l2tpv3: an Ethernet pseudowire of RFC 3931 to a router, to Linux's l2tp or to another machine, set
/// up by hand at both ends.</summary>
public static class L2tpNet
{
    const int IpProtocol = 115;

    public static readonly NetModel Model = new("l2tpv3",
        [
            Property.Text("src", help: "this host's address"), Property.Text("dst", help: "the other end's address"),
            Property.Bool("udp", false, "over UDP; else IP's protocol 115, which needs root"),
            Property.Text("srcport", help: "of UDP"), Property.Text("dstport", help: "of UDP"),
            Property.Bool("ipv6", false, "IPv6; else IPv4"),
            Property.Automatic("txsession", 0, uint.MaxValue, "the session that the other end expects"),
            Property.Automatic("rxsession", 0, uint.MaxValue, "the session that is taken; txsession if not given"),
            Property.Automatic("txcookie", help: "the other end's secret"),
            Property.Automatic("rxcookie", help: "what the other end must send"),
            Property.Bool("cookie64", false, "cookies have 64 bits; else 32"),
            Property.Bool("counter", false, "frames are counted, and late ones dropped"),
            Property.Bool("pincounter", false, "the counter stays 0 and is not looked at"),
            Property.Number("offset", 0, 0, 1024, "bytes between header and frame"),
        ],
        static (given, _) =>
        {
            L2tpOptions options = Read(given);
            InternetAddress local = Address(given, "src", "srcport", options),
                remote = Address(given, "dst", "dstport", options);
            return new DatagramNet(given.Required("id"), Model!.Name, NetAddress.Guarded(given,
                () => Open(given, options, local, remote)), "l2tpv3: connected", new L2tpEnvelope(options));
        }) { Description = "an Ethernet pseudowire over IP or UDP, RFC 3931" };

    static L2tpOptions Read(Properties given)
    {
        ulong transmit = given.NumberOrAuto("txsession") ?? throw given.Error("Parameter 'txsession' is missing");
        ulong? theirs = given.NumberOrAuto("txcookie"), ours = given.NumberOrAuto("rxcookie");
        if (theirs is null != ours is null) throw given.Error("require both 'rxcookie' and 'txcookie' or neither");
        bool isLong = given.Bool("cookie64");
        if (!isLong && (theirs > uint.MaxValue || ours > uint.MaxValue))
            throw given.Error("a cookie has more than 32 bits; add cookie64=on");
        return new L2tpOptions(given.Bool("udp"), given.Bool("ipv6"), (uint)transmit,
            (uint)(given.NumberOrAuto("rxsession") ?? transmit), theirs == null ? 0 : isLong ? 8 : 4, theirs ?? 0,
            ours ?? 0, given.Bool("counter"), given.Bool("pincounter"), (int)given.Number("offset"));
    }

    static InternetAddress Address(Properties given, string host, string port, L2tpOptions options)
    {
        string name = given.Required(host);
        if (given.Has(port) != options.IsUdp)
            throw given.Error(options.IsUdp ? $"need both src and dst port for udp: {port}= is missing"
                : $"{port}= needs udp=on");
        return new InternetAddress(name, options.IsUdp ? NetAddress.Port(given, port, given.Required(port)) : 0, null,
            !options.IsIpv6, options.IsIpv6);
    }

    static DatagramSocket Open(Properties given, L2tpOptions options, InternetAddress local, InternetAddress remote)
    {
        if (options.IsUdp) return DatagramSocket.Open(local, remote);
        try { return DatagramSocket.OpenRaw(local, remote, IpProtocol); }
        catch (HostException e) when (e.Errno == Libc.EPerm)
        {
            throw given.Error($"{e.Message}; it needs root's rights (CAP_NET_RAW): use udp=on", e);
        }
    }
}
