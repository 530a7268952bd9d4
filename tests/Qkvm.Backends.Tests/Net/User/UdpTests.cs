using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.User;
using Qkvm.Testing;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

public sealed class UdpTests
{
    [Fact]
    public void ARP_is_answered_for_the_host_and_the_nameserver_alone()
    {
        using var guest = new FakeGuest();
        foreach (byte last in (byte[])[2, 3])
        {
            guest.Send(Arp(FakeGuest.Address, $"10.0.2.{last}"));
            Frame reply = guest.Next(f => f.Type == 0x806);
            byte[] mac = [0x52, 0x55, 10, 0, 2, last];
            Assert.Equal(mac, reply.From);
            Assert.Equal(GuestMac, reply.To);
            Assert.Equal([0, 1, 8, 0, 6, 4, 0, 2, .. mac, 10, 0, 2, last, .. GuestMac, 10, 0, 2, 15],
                reply.Bytes[14..]);
        }
        guest.Send(Arp(FakeGuest.Address, "10.0.2.4"));
        guest.Send(Arp(FakeGuest.Address, FakeGuest.Address));
        guest.Send(Arp(FakeGuest.Address, "10.0.2.2")[..41]);
        Assert.Empty(guest.Settle());
    }

    [Fact]
    public void Datagrams_reach_the_host_and_answers_come_from_its_address()
    {
        using var guest = new FakeGuest();
        using var server = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        int port = ((IPEndPoint)server.Client.LocalEndPoint!).Port;
        foreach (int length in (int[])[0, 5, 1472, 9000])          // the last in fragments on the way back
        {
            byte[] data = [.. Enumerable.Range(0, length).Select(i => (byte)i)];
            SendInFragments(guest, Udp(FakeGuest.Address, 5000, FakeGuest.Host, port, data));
            IPEndPoint from = new(IPAddress.Any, 0);
            Assert.Equal(data, server.Receive(ref from));
            server.Send(data, from);
            Assert.Equal(data, Reassembled(guest, port).Skip(8));
        }
    }

    [Fact]
    public void A_closed_port_is_told_by_ICMP()
    {
        using var guest = new FakeGuest();
        byte[] sent = Udp(FakeGuest.Address, 5000, FakeGuest.Host, FreePort(), [1, 2, 3]);
        guest.Send(sent);
        Frame told = guest.Next(f => f.IsIcmp);
        Assert.Equal((3, 3), (told.Payload[0], told.Payload[1]));
        Assert.Equal(sent[34..], told.Payload[(8 + 20)..]);        // ports, checksum and data as they were
    }

    [Fact]
    public void A_wrong_checksum_is_dropped_and_one_that_is_left_out_is_not_looked_at()
    {
        using var guest = new FakeGuest();
        using var server = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0)) { Client = { ReceiveTimeout = 30000 } };
        int port = ((IPEndPoint)server.Client.LocalEndPoint!).Port;
        byte[] wrong = Udp(FakeGuest.Address, 5000, FakeGuest.Host, port, [1]);
        wrong[40] ^= 0x55;
        guest.Send(wrong);
        byte[] none = Udp(FakeGuest.Address, 5000, FakeGuest.Host, port, [2]);
        (none[40], none[41]) = (0, 0);                             // RFC 768: no checksum
        guest.Send(none);
        byte[] left = Udp(FakeGuest.Address, 5000, FakeGuest.Host, port, [3]);
        left[40] ^= 0x55;
        guest.Send(left, new(NeedsChecksum: true, ChecksumStart: 0xFFFF, ChecksumOffset: 0xFFFF));
        IPEndPoint from = new(IPAddress.Any, 0);
        Assert.Equal([2], server.Receive(ref from));
        Assert.Equal([3], server.Receive(ref from));
    }

    [RootFact]
    public void Questions_to_the_nameserver_go_to_the_hosts()
    {
        string file = Path.GetTempFileName();
        File.WriteAllText(file, "# ours\nsearch example.org\nnameserver fe80::1%eth0\nnameserver 127.53.0.9\n" +
            "nameserver 192.0.2.1\n");
        using var guest = new FakeGuest(UserNetOptions.Default("n") with { ResolverFile = file });
        using var server = new UdpClient(new IPEndPoint(IPAddress.Parse("127.53.0.9"), 53));
        guest.Send(Udp(FakeGuest.Address, 5000, "10.0.2.3", 53, [9, 9]));
        IPEndPoint from = new(IPAddress.Any, 0);
        Assert.Equal([9, 9], server.Receive(ref from));
        using (var liar = new UdpClient(new IPEndPoint(IPAddress.Parse("127.53.0.8"), 53))) liar.Send([6, 6], from);
        server.Send([8, 8], from);
        Frame answer = guest.Next(f => f.IsUdp);
        Assert.Equal([8, 8], answer.Data);
        Assert.Equal(("10.0.2.3", 53, 5000), (answer.Source, answer.SourcePort, answer.DestinationPort));
        File.Delete(file);
    }

    [Fact]
    public void A_forwarded_port_brings_datagrams_to_the_guest()
    {
        using var guest = new FakeGuest(UserNetOptions.Default("n") with
        {
            HostForwards = [new(ForwardKind.Udp, Endpoint("127.0.0.1", 0), Endpoint(FakeGuest.Address, 69))],
        });
        guest.Send(Arp(FakeGuest.Address, FakeGuest.Host));
        using var client = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0)) { Client = { ReceiveTimeout = 30000 } };
        int port = guest.Backend.Forwards.Single().Host.Port, own = ((IPEndPoint)client.Client.LocalEndPoint!).Port;
        guest.Settle();
        client.Send([1, 2], new IPEndPoint(IPAddress.Loopback, port));
        Frame came = guest.Next(f => f.IsUdp);
        Assert.Equal((FakeGuest.Host, own, 69), (came.Source, came.SourcePort, came.DestinationPort));
        guest.Send(Udp(FakeGuest.Address, 69, FakeGuest.Host, own, [3]));
        IPEndPoint from = new(IPAddress.Any, 0);
        Assert.Equal([3], client.Receive(ref from));
        Assert.Equal(port, from.Port);
    }

    internal static Qkvm.Host.Sockets.IpEndpoint Endpoint(string address, int port)
    {
        Assert.True(Qkvm.Host.Sockets.IpAddress.TryParse(address, out var parsed));
        return new(parsed, (ushort)port);
    }

    static void SendInFragments(FakeGuest guest, byte[] frame)
    {
        byte[] payload = frame[34..];
        for (int at = 0; at < payload.Length; at += 1480)
        {
            bool more = at + 1480 < payload.Length;
            guest.Send(Ip4(FakeGuest.Address, FakeGuest.Host, 17, payload[at..Math.Min(at + 1480, payload.Length)],
                (ushort)(at / 8 | (more ? 0x2000 : 0)), id: 77));
        }
    }

    /// <summary>The payload of the next packet of IPv4, put together.</summary>
    static byte[] Reassembled(FakeGuest guest, int port)
    {
        List<byte> all = [];
        while (true)
        {
            Frame frame = guest.NextUnchecked(f => f.Type == 0x800 && f.Protocol == 17);
            int fragment = Read16(frame.Bytes, 20);
            Assert.Equal(all.Count, (fragment & 0x1FFF) * 8);
            Assert.Equal(frame.Payload.Length + 20, Read16(frame.Bytes, 16));
            all.AddRange(frame.Payload);
            if ((fragment & 0x2000) == 0) break;
        }
        Assert.Equal(0, Sum([.. Pseudo(FakeGuest.Host, FakeGuest.Address, 17, all.Count), .. all]));
        Assert.Equal(port, all[0] << 8 | all[1]);
        return [.. all];
    }

    internal static int FreePort()
    {
        using var probe = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)probe.Client.LocalEndPoint!).Port;
    }
}
