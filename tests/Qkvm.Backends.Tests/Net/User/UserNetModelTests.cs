using Qkvm.Backends.Net.User;
using Qkvm.Core.Configuration;
using Qkvm.Core.Net;

namespace Qkvm.Backends.Tests.Net.User;

public sealed class UserNetModelTests
{
    const string Owner = "-netdev user,id=n";

    static readonly NetModel s_model = UserNetModel.Model;

    [Fact]
    public void Without_options_it_is_QEMUs_network()
    {
        UserNetOptions options = Read("");
        Assert.Equal(UserNetOptions.Default("n"), options with { SearchDomains = [], HostForwards = [],
            GuestForwards = [] }, new ByText());
    }

    [Theory]
    [InlineData("net=192.168.76.0/24", "192.168.76.0/24 .2 192.168.76.15 192.168.76.3")]
    [InlineData("net=192.168.76.9/255.255.255.0", "192.168.76.0/24 .2 192.168.76.15 192.168.76.3")]
    [InlineData("net=10.0.0.0", "10.0.0.0/8 .2 10.0.2.15 10.0.2.3")]
    [InlineData("net=172.20.0.0", "172.16.0.0/12 .2 172.16.2.15 172.16.2.3")]
    [InlineData("net=192.168.0.0", "192.168.0.0/16 .2 192.168.2.15 192.168.2.3")]
    [InlineData("host=10.0.2.77,dns=10.0.2.78,dhcpstart=10.0.2.100", "10.0.2.0/24 .77 10.0.2.100 10.0.2.78")]
    public void Addresses_follow_from_the_network(string text, string expected)
    {
        UserNetOptions o = Read(text);
        Assert.Equal(expected, $"{o.Network}/{o.NetworkBits} .{o.Host.V4Bits & 0xFF} {o.DhcpStart} {o.Nameserver}");
    }

    [Theory]
    [InlineData("ipv6-net=fd00:1::/48", "fd00:1::/48 fd00:1::2 fd00:1::3")]
    [InlineData("ipv6-prefix=fd00:2::,ipv6-prefixlen=64,ipv6-host=fd00:2::9", "fd00:2::/64 fd00:2::9 fd00:2::3")]
    public void So_do_those_of_IPv6(string text, string expected)
    {
        UserNetOptions o = Read(text);
        Assert.Equal(expected, $"{o.Prefix6}/{o.Prefix6Bits} {o.Host6} {o.Nameserver6}");
    }

    [Theory]
    [InlineData("ipv4=on", true, false)]
    [InlineData("ipv6=on", false, true)]
    [InlineData("ipv6=off", true, false)]
    [InlineData("ipv4=on,ipv6=on", true, true)]
    public void One_family_alone_leaves_the_other_off(string text, bool ipv4, bool ipv6)
    {
        UserNetOptions o = Read(text);
        Assert.Equal((ipv4, ipv6), (o.Ipv4, o.Ipv6));
    }

    [Fact]
    public void Forwards_and_search_domains_may_be_given_several_times()
    {
        UserNetOptions o = Read("hostfwd=tcp::2222-:22,dnssearch=a.b,hostfwd=udp:127.0.0.1:69-10.0.2.16:69,"
            + "dnssearch=c,hostfwd=unix:/tmp/a-b-:80,hostfwd=:[::1]:1-[fec0::9]:2,guestfwd=tcp:10.0.2.100:80-cmd:a -b,"
            + "guestfwd=:10.0.2.100:81-chardev:c0");
        Assert.Equal(["tcp:0.0.0.0:2222-10.0.2.15:22", "udp:127.0.0.1:69-10.0.2.16:69",
            "unix:/tmp/a-b-10.0.2.15:80", "tcp:[::1]:1-[fec0::9]:2"], o.HostForwards.Select(f => $"{f}"));
        Assert.Equal([new(UdpTests.Endpoint("10.0.2.100", 80), null, "a -b"),
            new(UdpTests.Endpoint("10.0.2.100", 81), "c0", null)], o.GuestForwards);
        Assert.Equal(["a.b", "c"], o.SearchDomains);
    }

    [Fact]
    public void Monitors_give_them_as_lists()
    {
        var given = new Properties(s_model, Options.ParseJson("""
            {"id":"n","hostfwd":[{"str":"tcp::1-:2"},{"str":"udp::3-:4"}],"dnssearch":["x"]}
            """, Owner));
        UserNetOptions o = UserNetModel.Read(given);
        Assert.Equal((2, "x"), (o.HostForwards.Count, o.SearchDomains.Single()));
        Assert.Contains("dnssearch.0 is no text", Assert.Throws<ConfigurationException>(() => new Properties(s_model,
            Options.ParseJson("""{"id":"n","dnssearch":[{"text":"x"}]}""", Owner))).Message);
    }

    [Theory]
    [InlineData("net=10.0.2.0/33", "net=10.0.2.0/33: write a mask from /4 to /29")]
    [InlineData("net=10.0.2.0/255.0.255.0", "write a mask from /4 to /29")]
    [InlineData("net=10.2/24", "net=10.2 is no address of IPv4")]
    [InlineData("host=1.2.3.4", "host=1.2.3.4 is not in the network 10.0.2.0/24")]
    [InlineData("dhcpstart=9.9.9.9", "dhcpstart=9.9.9.9 is not in the network")]
    [InlineData("dns=10.0.2.2", "dns=10.0.2.2 must be another than host=")]
    [InlineData("ipv6-net=fec0::/200", "write a prefix length from 0 to 126")]
    [InlineData("ipv6-prefixlen=127", "ipv6-prefixlen=127 is not in 0 to 126")]
    [InlineData("ipv6-host=1::2", "ipv6-host=1::2 is not in the network fec0::/64")]
    [InlineData("ipv4=off,ipv6=off", "IPv4 and IPv6 are both off")]
    [InlineData("hostfwd=tcp:1", "Invalid host forwarding rule 'tcp:1' (Missing - separator); write for example")]
    [InlineData("hostfwd=tcp::1-:x", "'tcp::1-:x' (Bad guest port)")]
    [InlineData("hostfwd=tcp::1-:0", "'tcp::1-:0' (Bad guest port)")]
    [InlineData("hostfwd=tcp::99999-:22", "(Bad host port)")]
    [InlineData("hostfwd=tcp:10.0.2.2.2:1-:1", "(Bad host address)")]
    [InlineData("hostfwd=tcp:localhost:1-:1", "(Bad host address)")]
    [InlineData("hostfwd=sctp::1-:1", "(Bad protocol name)")]
    [InlineData("hostfwd=unix:-:1", "(Bad path)")]
    [InlineData("hostfwd=tcp::1-9.9.9.9:1", "(9.9.9.9 is not in the guest's network)")]
    [InlineData("hostfwd=tcp::1-[fec0::9]:1,ipv6=off", "(IPv6 is off)")]
    [InlineData("guestfwd=tcp:1", "Invalid guest forwarding rule 'tcp:1' (write for example")]
    [InlineData("guestfwd=udp:10.0.2.100:5-cmd:cat", "Invalid guest forwarding rule")]
    [InlineData("guestfwd=tcp:1.2.3.4:5-cmd:cat", "(1.2.3.4 is not one of the guest's network that is free)")]
    [InlineData("guestfwd=tcp:10.0.2.2:5-cmd:cat", "(10.0.2.2 is not one of")]
    [InlineData("guestfwd=tcp:10.0.2.9:5-cmd:a,guestfwd=tcp:10.0.2.9:5-cmd:b", "(10.0.2.9:5 has one already)")]
    [InlineData("guestfwd=tcp:10.0.2.9:5-tcp:1.2.3.4:5", "give the device by its id")]
    [InlineData("tftp=/none/such", "tftp=/none/such: there is no such folder")]
    [InlineData("domainname=", "domainname= is empty")]
    [InlineData("dnssearch=a..b", "dnssearch=a..b has an empty part")]
    [InlineData("smb=/tmp", "smb=/tmp is not built yet; let smbd of the host listen")]
    [InlineData("smbserver=10.0.2.4", "smbserver=10.0.2.4 is not built yet")]
    [InlineData("hostfw=tcp::1-:1", "Property 'user.hostfw' not found")]
    public void What_does_not_fit_is_refused_with_what_would(string text, string expected)
    {
        string message = Assert.Throws<ConfigurationException>(() => Read(text)).Message;
        Assert.StartsWith(Owner, message);
        Assert.Contains(expected, message);
    }

    [Fact]
    public void What_DHCP_has_no_room_for_is_refused()
    {
        Assert.Contains("bootfile= has more than 127 bytes", Assert.Throws<ConfigurationException>(
            () => Read($"bootfile={new string('a', 128)}")).Message);
        Assert.Equal(127, Read($"bootfile={new string('a', 127)}").BootFile!.Length);
        Assert.Contains("hostname= has more than 255 bytes", Assert.Throws<ConfigurationException>(
            () => Read($"hostname={new string('a', 256)}")).Message);
    }

    static UserNetOptions Read(string text) => UserNetModel.Read(new Properties(s_model,
        Options.Parse($"id=n{(text == "" ? "" : ",")}{text}", $"-netdev user,id=n")));

    sealed class ByText : IEqualityComparer<UserNetOptions>
    {
        public bool Equals(UserNetOptions? x, UserNetOptions? y) => $"{x}" == $"{y}";
        public int GetHashCode(UserNetOptions obj) => 0;
    }
}
