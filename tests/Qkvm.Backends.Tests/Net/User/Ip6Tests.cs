using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.User;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

public sealed class Ip6Tests
{
    const string Guest = "fec0::15", Host = "fec0::2", Link = "fe80::5054:ff:fe12:3456";
    static readonly byte[] s_routerMac = [0x52, 0x56, 0, 0, 0, 2];

    [Fact]
    public void A_router_advertises_itself_its_prefix_and_its_nameserver()
    {
        string file = Path.GetTempFileName();
        File.WriteAllText(file, "nameserver 2001:db8::1\n");
        using var guest = new FakeGuest(UserNetOptions.Default("n") with
        {
            ResolverFile = file, SearchDomains = ["a.b"],
        });
        guest.Send(Icmp(Link, "ff02::2", 133, 0, 0, 0, 0, 0, 0, 0));
        Frame told = guest.Next(f => f.IsIcmp);
        Assert.Equal(("fe80::2", Link, 255), (told.Source, told.Destination, told.HopLimit));
        Assert.Equal(s_routerMac, told.From);
        byte[] m = told.Payload;
        Assert.Equal([134, 0], m[..2]);
        Assert.Equal([64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, .. s_routerMac], m[4..24]);
        Assert.Equal([3, 4, 64, 0xC0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0, .. Address("fec0::")], m[24..56]);
        Assert.Equal([25, 3, 0, 0, 0, 0x12, 0x4F, 0x80, .. Address("fec0::3")], m[56..80]);
        Assert.Equal([31, 2, 0, 0, 0, 0x12, 0x4F, 0x80, 1, .. "a"u8, 1, .. "b"u8, 0, 0, 0, 0], m[80..]);
        File.Delete(file);
    }

    [Fact]
    public void Neighbours_are_answered_for()
    {
        using var guest = new FakeGuest();
        foreach (string address in (string[])["fec0::2", "fec0::3", "fe80::2", "fe80::3"])
        {
            guest.Send(Icmp(Link, "ff02::1:ff00:2", [135, 0, 0, 0, 0, 0, 0, 0, .. Address(address)]));
            Frame told = guest.Next(f => f.IsIcmp);
            Assert.Equal((address, 136, 0xE0), (told.Source, told.Payload[0], told.Payload[4]));
            Assert.Equal([2, 1, 0x52, 0x56, 0, 0, 0, Address(address)[15]], told.Payload[24..]);
        }
        guest.Send(Icmp(Link, "ff02::1:ff00:9", [135, 0, 0, 0, 0, 0, 0, 0, .. Address("fec0::9")]));
        byte[] far = Icmp(Link, "ff02::1:ff00:2", [135, 0, 0, 0, 0, 0, 0, 0, .. Address("fec0::2")]);
        far[21] = 254;                                             // a hop limit that says it came from elsewhere
        guest.Send(far);
        Assert.Empty(guest.Settle());
    }

    [Fact]
    public void DHCPv6_gives_nameserver_search_list_and_boot_file_to_who_has_an_address()
    {
        using var guest = new FakeGuest(UserNetOptions.Default("n") with { SearchDomains = ["x"], BootFile = "b.efi" });
        byte[] client = [0, 1, 0, 4, 9, 8, 7, 6];
        Frame reply = Ask(guest, [11, 1, 2, 3, .. client, 0, 6, 0, 6, 0, 23, 0, 24, 0, 59]);
        Assert.Equal(("fe80::2", Link, 547, 546), (reply.Source, reply.Destination, reply.SourcePort,
            reply.DestinationPort));
        Assert.Equal([7, 1, 2, 3, .. client, 0, 2, 0, 10, 0, 3, 0, 1, .. s_routerMac, 0, 23, 0, 16,
            .. Address("fec0::3"), 0, 24, 0, 3, 1, .. "x"u8, 0, 0, 59, 0, 22,
            .. "tftp://[fec0::2]/b.efi"u8], reply.Data);
        Assert.Equal(18 + 20, Ask(guest, [11, 1, 2, 3, 0, 6, 0, 2, 0, 23]).Data.Length); // what it asks for alone
    }

    [Theory]
    [InlineData(1, 1, 2, 3)]                                       // SOLICIT: there are no addresses
    [InlineData(3, 1, 2, 3)]
    [InlineData(11, 1, 2, 3, 0, 3, 0, 0)]                          // with an IA
    [InlineData(11, 1, 2, 3, 0, 2, 0, 1, 5)]                       // to another server
    [InlineData(11, 1, 2, 3, 0, 6, 0, 9, 0, 23)]                   // an option longer than the message
    [InlineData(11, 1, 2, 3, 0, 6, 0)]
    [InlineData(11, 1, 2)]
    [InlineData()]
    public void Others_and_broken_ones_are_not_answered(params int[] message)
    {
        using var guest = new FakeGuest();
        guest.Send(Udp(Link, 546, "ff02::1:2", 547, [.. message.Select(b => (byte)b)]));
        Assert.Empty(guest.Settle());
    }

    [Fact]
    public void Datagrams_reach_the_hosts_loopback_and_a_closed_port_is_told()
    {
        using var guest = new FakeGuest();
        using var server = new UdpClient(new IPEndPoint(IPAddress.IPv6Loopback, 0));
        server.Client.ReceiveTimeout = 30_000;
        int port = ((IPEndPoint)server.Client.LocalEndPoint!).Port;
        guest.Send(Udp(Guest, 5000, Host, port, [1, 2, 3]));
        IPEndPoint from = new(IPAddress.IPv6Any, 0);
        Assert.Equal([1, 2, 3], server.Receive(ref from));
        server.Send([4, 5], from);
        Frame answer = guest.Next(f => f.IsUdp);
        Assert.Equal((Host, Guest, port, 5000), (answer.Source, answer.Destination, answer.SourcePort,
            answer.DestinationPort));
        Assert.Equal([4, 5], answer.Data);
        guest.Send(Udp(Guest, 5000, Host, 1, [1]));
        Frame told = guest.Next(f => f.IsIcmp && f.Payload[0] < 128);
        Assert.Equal((1, 4), (told.Payload[0], told.Payload[1]));
    }

    [Fact]
    public void A_connection_carries_bytes_both_ways()
    {
        using var guest = new FakeGuest();
        using var listener = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.IPv6Loopback, 0));
        listener.Listen();
        int port = ((IPEndPoint)listener.LocalEndPoint!).Port;
        guest.Send(Tcp(Guest, 4000, Host, port, 99, 0, Syn));
        Frame accepted = guest.Next(f => f.IsTcp);
        Assert.Equal((Syn | Ack, 100u), (accepted.Flags, accepted.Acknowledgment));
        Assert.Equal([2, 4, .. Big16(1440)], accepted.Payload[20..24]);
        guest.Send(Tcp(Guest, 4000, Host, port, 100, accepted.Sequence + 1, Ack | Psh, "ping"u8.ToArray()));
        using Socket program = listener.Accept();
        program.ReceiveTimeout = 30_000;
        var data = new byte[4];
        Assert.Equal(4, program.Receive(data));
        Assert.Equal("ping"u8, data);
        program.Send("pong"u8);
        Assert.Equal("pong"u8, guest.Next(f => f.IsTcp && f.Data.Length > 0).Data);
    }

    static Frame Ask(FakeGuest guest, byte[] message)
    {
        guest.Send(Udp(Link, 546, "ff02::1:2", 547, message));
        return guest.Next(f => f.IsUdp);
    }
}
