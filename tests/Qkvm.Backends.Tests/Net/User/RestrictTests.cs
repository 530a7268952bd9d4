using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.User;
using Qkvm.Host.Sockets;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>restrict=on: each way out is closed, and each way that the user opened is not.</summary>
public sealed class RestrictTests
{
    const string Link = "fe80::5054:ff:fe12:3456";

    static readonly UserNetOptions s_options = UserNetOptions.Default("n") with { Restrict = true };

    [Theory]
    [InlineData("10.0.2.15", "10.0.2.2")]                          // this host
    [InlineData("10.0.2.15", "10.0.2.3")]
    [InlineData("10.0.2.15", "127.0.0.1")]
    [InlineData("10.0.2.15", "10.0.2.9")]                          // an address of the network that nobody has
    [InlineData("10.0.2.15", "192.0.2.1")]
    [InlineData("fec0::15", "fec0::2")]
    [InlineData("fec0::15", "fec0::3")]
    [InlineData("fec0::15", "::1")]
    [InlineData("fec0::15", "2001:db8::1")]
    [InlineData(Link, "fe80::2")]
    public void No_connection_leaves(string from, string to)
    {
        using var guest = new FakeGuest(s_options);
        using var listener = new TcpListener(from.Contains(':') ? IPAddress.IPv6Loopback : IPAddress.Loopback, 0);
        listener.Start();
        guest.Send(Tcp(from, 4000, to, ((IPEndPoint)listener.LocalEndpoint).Port, 7, 0, Syn));
        guest.Send(Tcp(from, 4001, to, 53, 7, 0, Syn));
        Assert.All(guest.Settle(), f => Assert.Equal(Rst | Ack, f.Flags));
        Assert.False(listener.Pending());
        Assert.Empty(guest.Backend.Connections);
    }

    [Theory]
    [InlineData("10.0.2.15", "10.0.2.2")]
    [InlineData("10.0.2.15", "10.0.2.3")]
    [InlineData("10.0.2.15", "192.0.2.1")]
    [InlineData("10.0.2.15", "255.255.255.255")]
    [InlineData("10.0.2.15", "10.0.2.255")]
    [InlineData("10.0.2.15", "224.0.0.251")]
    [InlineData("fec0::15", "fec0::2")]
    [InlineData("fec0::15", "fec0::3")]
    [InlineData("fec0::15", "2001:db8::1")]
    [InlineData("fec0::15", "ff02::fb")]
    public void No_datagram_and_no_ping_leaves(string from, string to)
    {
        using var guest = new FakeGuest(s_options);
        bool isOurs = to is "10.0.2.2" or "10.0.2.3" or "fec0::2" or "fec0::3";
        using var server = new UdpClient(new IPEndPoint(from.Contains(':') ? IPAddress.IPv6Loopback
            : IPAddress.Loopback, 0));
        guest.Send(Udp(from, 4000, to, ((IPEndPoint)server.Client.LocalEndPoint!).Port, [1]));
        guest.Send(Udp(from, 4000, to, 53, [1]));
        guest.Send(Icmp(from, to, from.Contains(':') ? (byte)128 : (byte)8, 0, 0, 0, 0, 1, 0, 1));
        Assert.Equal(isOurs ? 1 : 0, guest.Settle().Count(f => f.IsIcmp)); // ours answer: that leads nowhere
        Assert.Equal(0, server.Available);
        Assert.Empty(guest.Backend.Connections);
    }

    [Fact]
    public void Router_and_nameserver_are_not_told()
    {
        string file = Path.GetTempFileName();
        File.WriteAllText(file, "nameserver 2001:db8::1\n");
        using var guest = new FakeGuest(s_options with { ResolverFile = file });
        guest.Send(Icmp(Link, "ff02::2", 133, 0, 0, 0, 0, 0, 0, 0));
        Assert.Equal(56, guest.Next(f => f.IsIcmp).Payload.Length); // no more than the prefix
        guest.Send(Udp(Link, 546, "ff02::1:2", 547, [11, 1, 2, 3, 0, 6, 0, 2, 0, 23]));
        Assert.Equal(4 + 14, guest.Next(f => f.IsUdp).Data.Length);
        File.Delete(file);
    }

    [Fact]
    public void What_the_user_forwards_works()
    {
        using var guest = new FakeGuest(s_options with
        {
            HostForwards = [new(ForwardKind.Udp, UdpTests.Endpoint("127.0.0.1", 0), UdpTests.Endpoint("10.0.2.15", 7))],
        });
        guest.Send(Arp(FakeGuest.Address, FakeGuest.Host));
        guest.Settle();
        using var client = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0)) { Client = { ReceiveTimeout = 30000 } };
        client.Send([1], new IPEndPoint(IPAddress.Loopback, guest.Backend.Forwards.Single().Host.Port));
        Frame came = guest.Next(f => f.IsUdp);
        guest.Send(Udp(FakeGuest.Address, 7, FakeGuest.Host, came.SourcePort, [2]));
        IPEndPoint from = new(IPAddress.Any, 0);
        Assert.Equal([2], client.Receive(ref from));
        // The same port leads to nobody else.
        using var other = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        guest.Send(Udp(FakeGuest.Address, 7, FakeGuest.Host, ((IPEndPoint)other.Client.LocalEndPoint!).Port, [2]));
        guest.Settle();
        Assert.Equal(0, other.Available);
    }
}
