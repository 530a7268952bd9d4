using System.Globalization;
using System.Text;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>-netdev user: what it takes, as QEMU has it, and what that means.</summary>
public static class UserNetModel
{
    public static readonly NetModel Model = new("user",
    [
        Property.Text("net", "10.0.2.0/24", "the guest's network and its mask"),
        Property.Text("host", help: "the guest's address for this host (default: the network's .2)"),
        Property.Text("dns", help: "the guest's address for this host's nameserver (default: .3)"),
        Property.Text("dhcpstart", help: "the first of 16 addresses for guests (default: .15)"),
        Property.Texts("dnssearch", "a domain in which guests look for names"),
        Property.Text("hostname", help: "the guest's name"),
        Property.Text("domainname", help: "the guest's domain"),
        Property.Text("tftp", help: "a folder whose files guests may read by TFTP"),
        Property.Text("tftp-server-name", help: "told to guests that boot from the network"),
        Property.Text("bootfile", help: "what guests that boot from the network load"),
        Property.Bool("restrict", false, "the guest reaches nothing but forwarded ports"),
        Property.Texts("hostfwd", "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport or unix:path-[guestaddr]:port"),
        Property.Texts("guestfwd", "[tcp]:server:port-chardev:ID or -cmd:command"),
        Property.OnOffAuto("ipv4"),
        Property.OnOffAuto("ipv6"),
        Property.Text("ipv6-net", help: "network and prefix length in one"),
        Property.Text("ipv6-prefix", "fec0::", "the guest's network of IPv6"),
        Property.Number("ipv6-prefixlen", 64, 0, 126),
        Property.Text("ipv6-host", help: "the guest's address for this host (default: the prefix's ::2)"),
        Property.Text("ipv6-dns", help: "the guest's address for the nameserver (default: ::3)"),
        Property.Missing("smb", remedy: "let smbd of the host listen on 127.0.0.1: guests reach it at 10.0.2.2"),
        Property.Missing("smbserver", remedy: "it needs smb="),
    ],
    Create) { Description = "a network without privileges" };

    static UserNetBackend Create(Properties given, IBackendHost host)
    {
        UserNetOptions options = Read(given);
        var targets = new GuestTargets(options.GuestForwards, host.Loop,
            id => host.Backends.TakeChardev(id, given.Owner), host.Backends.ReleaseChardev);
        return new UserNetBackend(given.Owner, options, targets, host.Print);
    }

    /// <exception cref="ConfigurationException">The values do not fit together.</exception>
    public static UserNetOptions Read(Properties given)
    {
        (uint network, int bits) = ReadNetwork(given);
        uint mask = uint.MaxValue << (32 - bits);
        IpAddress Inside(string name, uint number)
        {
            IpAddress address = given.Text(name) is { } text ? Parse4(given, name, text)
                : IpAddress.V4(network | (number & ~mask));
            return (address.V4Bits & mask) == network ? address
                : throw given.Error($"{name}={address} is not in the network {IpAddress.V4(network)}/{bits}");
        }
        var options = new UserNetOptions(given.Required("id"), IpAddress.V4(network), bits, Inside("host", 0x0202),
            Inside("dhcpstart", 0x020F), Inside("dns", 0x0203));
        if (options.Nameserver == options.Host) throw given.Error($"dns={options.Host} must be another than host=");
        options = ReadIpv6(given, options) with
        {
            Restrict = given.Bool("restrict"),
            HostName = ReadName(given, "hostname"), DomainName = ReadName(given, "domainname"),
            TftpServerName = ReadName(given, "tftp-server-name"),
            BootFile = Bounded(given, "bootfile", Dhcp.MaxBootFile),
            TftpFolder = ReadFolder(given), SearchDomains = given.Texts("dnssearch"),
        };
        foreach (string name in options.SearchDomains)
            if (DomainSearch.WhyNot(name) is { } why) throw given.Error($"dnssearch={name} {why}");
        // libslirp: one that is switched on alone leaves the other off.
        bool? ipv4 = given.OnOffAuto("ipv4"), ipv6 = given.OnOffAuto("ipv6");
        options = options with { Ipv4 = ipv4 ?? ipv6 != true, Ipv6 = ipv6 ?? ipv4 != true };
        if (!options.Ipv4 && !options.Ipv6) throw given.Error("IPv4 and IPv6 are both off: leave one on");
        return options with
        {
            HostForwards = [.. given.Texts("hostfwd").Select(rule => ReadHostForward(given.Owner, rule, options))],
            GuestForwards = ReadGuestForwards(given, options),
        };
    }

    /// <summary>A rule, whose guest must be in the network.</summary>
    /// <exception cref="ConfigurationException">It is none.</exception>
    public static HostForward ReadHostForward(string owner, string rule, UserNetOptions options)
    {
        try
        {
            HostForward forward = HostForward.Parse(rule, options.DhcpStart);
            if (forward.Guest.Address.IsV4 ? !options.Ipv4 : !options.Ipv6)
                throw new FormatException($"{(forward.Guest.Address.IsV4 ? "IPv4" : "IPv6")} is off");
            return Contains(options, forward.Guest.Address) ? forward
                : throw new FormatException($"{forward.Guest.Address} is not in the guest's network");
        }
        catch (FormatException e)
        {
            throw new ConfigurationException($"{owner}: Invalid host forwarding rule '{rule}' ({e.Message}); "
                + "write for example tcp:127.0.0.1:2222-:22", e);
        }
    }

    static List<GuestForward> ReadGuestForwards(Properties given, UserNetOptions options)
    {
        List<GuestForward> all = [];
        foreach (string rule in given.Texts("guestfwd"))
            try
            {
                GuestForward forward = GuestForward.Parse(rule);
                IpAddress address = forward.At.Address;
                if (!address.IsV4 || !Contains(options, address) || address == options.Host
                    || address == options.Nameserver)
                    throw new FormatException($"{address} is not one of the guest's network that is free");
                if (all.Exists(f => f.At == forward.At)) throw new FormatException($"{forward.At} has one already");
                all.Add(forward);
            }
            catch (FormatException e)
            {
                throw given.Error($"Invalid guest forwarding rule '{rule}' ({e.Message})", e);
            }
        return all;
    }

    static bool Contains(UserNetOptions options, IpAddress address) => address.IsV4
        ? address.IsIn(options.Network, options.NetworkBits)
        : address.IsLinkLocal || address.IsIn(options.Prefix6, options.Prefix6Bits);

    static (uint Network, int Bits) ReadNetwork(Properties given)
    {
        string text = given.Required("net");
        int slash = text.IndexOf('/');
        uint network = Parse4(given, "net", slash < 0 ? text : text[..slash]).V4Bits;
        int bits = slash < 0 ? ClassBits(network) : ReadMask(text[(slash + 1)..]);
        if (bits is < 4 or > 29)
            throw given.Error($"net={text}: write a mask from /4 to /29, as in 10.0.2.0/24 or 10.0.2.0/255.255.255.0");
        return (network & uint.MaxValue << (32 - bits), bits);
    }

    /// <summary>A number of bits, or a mask without holes; -1 for others.</summary>
    static int ReadMask(string text)
    {
        if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int bits)) return bits;
        if (!IpAddress.TryParse(text, out IpAddress mask) || !mask.IsV4) return -1;
        bits = int.CreateChecked(uint.LeadingZeroCount(~mask.V4Bits));
        return bits < 32 && mask.V4Bits == uint.MaxValue << (32 - bits) ? bits : -1;
    }

    /// <summary>What QEMU takes for a network without a mask: its class, or a private network.</summary>
    static int ClassBits(uint network) => (network >> 24, network >> 16) switch
    {
        (< 128, _) => 8,
        (172, var high) when (high & 0xF0) == 16 => 12,
        (< 192, _) => 16,
        (_, 0xC0A8) => 16,
        (_, 0xC612 or 0xC613) => 15,
        (< 224, _) => 24,
        _ => 28,
    };

    static UserNetOptions ReadIpv6(Properties given, UserNetOptions options)
    {
        string prefix = given.Required("ipv6-prefix");
        ulong bits = given.Number("ipv6-prefixlen");
        if (given.Text("ipv6-net") is { } both)
        {
            string[] parts = both.Split('/');
            prefix = parts[0];
            if (parts.Length > 2 || parts.Length == 2 && (!Qkvm.Core.Configuration.Properties.TryParseNumber(parts[1],
                out bits) || bits > 126))
                throw given.Error($"ipv6-net={both}: write a prefix length from 0 to 126, as in fec0::/64");
        }
        UInt128 mask = bits == 0 ? 0 : UInt128.MaxValue << (128 - (int)bits);
        UInt128 network = Parse6(given, "ipv6-prefix", prefix).Bits & mask;
        IpAddress Inside(string name, uint number)
        {
            IpAddress address = given.Text(name) is { } text ? Parse6(given, name, text) : new(network | number);
            return (address.Bits & mask) == network ? address
                : throw given.Error($"{name}={address} is not in the network {new IpAddress(network)}/{bits}");
        }
        options = options with
        {
            Prefix6 = new IpAddress(network), Prefix6Bits = (int)bits,
            Host6 = Inside("ipv6-host", 2), Nameserver6 = Inside("ipv6-dns", 3),
        };
        return options.Host6 != options.Nameserver6 ? options
            : throw given.Error($"ipv6-dns={options.Host6} must be another than ipv6-host=");
    }

    static IpAddress Parse4(Properties given, string name, string text) =>
        text.Count(c => c == '.') == 3 && IpAddress.TryParse(text, out IpAddress address) && address.IsV4 ? address
            : throw given.Error($"{name}={text} is no address of IPv4; write for example 10.0.2.2");

    static IpAddress Parse6(Properties given, string name, string text) =>
        IpAddress.TryParse(text, out IpAddress address) && !address.IsV4 ? address
            : throw given.Error($"{name}={text} is no address of IPv6; write for example fec0::2");

    static string? ReadName(Properties given, string name) => Bounded(given, name, byte.MaxValue) is "" ? throw
        given.Error($"{name}= is empty: leave it out") : given.Text(name);

    static string? Bounded(Properties given, string name, int most)
    {
        if (given.Text(name) is { } text && Encoding.UTF8.GetByteCount(text) > most)
            throw given.Error($"{name}= has more than {most} bytes, which DHCP cannot tell guests");
        return given.Text(name);
    }

    static string? ReadFolder(Properties given)
    {
        if (given.Text("tftp") is not { } folder) return null;
        return Directory.Exists(folder) ? Path.GetFullPath(folder)
            : throw given.Error($"tftp={folder}: there is no such folder");
    }
}
