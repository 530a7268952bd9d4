using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Net;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>Guests that want more than there is, and headers that are not what they say.</summary>
public sealed class HostileGuestTests
{
    /// <summary>Cut, lengthened and with each number of the headers at its bounds: dropped, and the network
    /// lives.</summary>
    [Theory]
    [InlineData("10.0.2.15", "10.0.2.2", 17)]
    [InlineData("10.0.2.15", "10.0.2.2", 6)]
    [InlineData("10.0.2.15", "10.0.2.2", 1)]
    [InlineData("fec0::15", "fec0::2", 17)]
    [InlineData("fec0::15", "fec0::2", 6)]
    [InlineData("fec0::15", "fec0::2", 58)]
    public void Any_length_and_any_number_of_a_header_is_taken(string from, string to, int protocol)
    {
        using var guest = new FakeGuest();
        byte[] good = protocol switch
        {
            17 => Udp(from, 5000, to, UdpTests.FreePort(), [1, 2, 3, 4]),
            6 => Tcp(from, 5000, to, 1, 1, 0, Syn, options: [2, 4, 5, 0xB4, 3, 3, 7, 0]),
            1 => Icmp(from, to, 8, 0, 0, 0, 0, 1, 0, 1, 9, 9),
            _ => Icmp(from, to, 128, 0, 0, 0, 0, 1, 0, 1, 9, 9),
        };
        for (int length = 0; length <= good.Length; length++) guest.Send(good[..length]);
        guest.Send([.. good, .. new byte[80_000]]);                // more than the largest frame
        for (int at = 12; at < good.Length; at++)
        {
            if (at >= (from.Contains(':') ? 38 : 30) && at < (from.Contains(':') ? 54 : 34)) continue; // real networks
            foreach (byte value in (byte[])[0, 1, 0x7F, 0x80, 0xFF])
            {
                byte[] other = [.. good];
                other[at] = value;
                guest.Send(other, new NetHeader(NeedsChecksum: true));
                if (from.Contains(':')) continue;
                Big16(0).CopyTo(other, 24);                        // with the sum right: its other checks are met
                if ((other[14] & 0xF) == 5) Big16(Sum(other[14..34])).CopyTo(other, 24);
                guest.Send(other, new NetHeader(NeedsChecksum: true));
            }
        }
        AssertAlive(guest);
    }

    /// <summary>CVE-2023-6693 and its like: what a card's header says of the frame is the guest's word.</summary>
    [Fact]
    public void Offload_headers_that_lie_do_nothing()
    {
        using var guest = new FakeGuest(offloads: NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6);
        byte[] segment = Tcp(FakeGuest.Address, 5000, FakeGuest.Host, 1, 1, 0, Syn);
        ushort[] numbers = [0, 1, 14, 34, 54, 0x7FFF, 0xFFFF];
        foreach (bool needs in (bool[])[false, true])
            foreach (byte kind in (byte[])[0, 1, 3, 4, 5, 0x81, 0xFF])
                foreach (ushort start in numbers)
                    foreach (ushort size in numbers)
                        guest.Send(segment, new NetHeader(needs, !needs, (Segmentation)kind, size, size, start, size));
        AssertAlive(guest);
    }

    [Fact]
    public void Chains_of_extension_headers_end()
    {
        using var guest = new FakeGuest();
        for (int count = 0; count < 30; count++)
        {
            byte[] chain = [.. Enumerable.Range(0, count).SelectMany(i => new byte[] { i == count - 1 ? (byte)17
                : (byte)60, 0, 1, 4, 0, 0, 0, 0 }), 0, 1, 0, 1, 0, 8, 0, 0];
            guest.Send(Ip6("fec0::15", "fec0::2", count == 0 ? (byte)17 : (byte)60, chain));
            chain[1] = 0xFF;                                       // longer than the packet
            guest.Send(Ip6("fec0::15", "fec0::2", 60, chain));
        }
        AssertAlive(guest);
    }

    [Fact]
    public void Fragments_that_never_end_cost_no_more_than_a_few_packets()
    {
        using var guest = new FakeGuest();
        for (int id = 0; id < 5000; id++)
            guest.Send(Ip4(FakeGuest.Address, FakeGuest.Host, 17, new byte[8], 0x2000, (ushort)id));
        for (int at = 0; at < 0x1FFF; at += 2)                     // one of more pieces than a packet may have
            guest.Send(Ip4(FakeGuest.Address, FakeGuest.Host, 17, new byte[8], (ushort)(0x2000 | at), 7));
        guest.Send(Ip4(FakeGuest.Address, FakeGuest.Host, 17, new byte[1480], 0x1FFF, 9)); // beyond 64 KiB
        // Overlapping ones end it: nothing of it arrives.
        guest.Send(Ip4(FakeGuest.Address, FakeGuest.Host, 17, new byte[16], 0x2000, 11));
        guest.Send(Ip4(FakeGuest.Address, FakeGuest.Host, 17, new byte[16], 0x2001, 11));
        guest.Advance(31);
        AssertAlive(guest);
    }

    [Fact]
    public void More_connections_than_the_bound_push_out_the_idlest()
    {
        using var guest = new FakeGuest();
        using var first = new FakeConnection(guest);
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start(16);
        int port = ((IPEndPoint)listener.LocalEndpoint).Port;
        for (int i = 0; i < 5000; i++)
            guest.Send(Tcp(FakeGuest.Address, 5000 + i, FakeGuest.Host, port, 1, 0, Syn));
        guest.Settle();
        Assert.InRange(guest.Backend.Connections.Count, 1, 4096);
        Assert.DoesNotContain(guest.Backend.Connections, c => c.SourcePort == 4000);
        Assert.ThrowsAny<SocketException>(() => first.Program.Receive(new byte[1])); // it was reset
        AssertAlive(guest);
    }

    [Fact]
    public void More_ports_and_more_addresses_than_the_bounds_push_out_the_oldest()
    {
        using var guest = new FakeGuest();
        int port = UdpTests.FreePort();
        for (int i = 0; i < 3000; i++) guest.Send(Udp(FakeGuest.Address, 2000 + i, FakeGuest.Host, port, [1]));
        for (int i = 1; i < 60_000; i += 3) guest.Send(Arp($"10.0.2.{i % 250 + 4}", FakeGuest.Host));
        Assert.InRange(guest.Backend.Connections.Count, 1, 1024);
        AssertAlive(guest);
    }

    /// <summary>A guest that never reads, and programs of the host that never read: the rest waits outside.</summary>
    [Fact]
    public void Data_that_nobody_takes_fill_no_more_than_the_bound()
    {
        using var guest = new FakeGuest();
        List<FakeConnection> connections = [];
        for (int i = 0; i < 100; i++)                          // who would hold 100 MiB and more
        {
            var connection = new FakeConnection(guest, 4000 + i, window: 0,
                options: [3, 3, 14, 0], receiveBuffer: 4096);
            connections.Add(connection);
            connection.Program.Blocking = false;
            byte[] data = new byte[1 << 20];
            for (int j = 0; j < 8; j++)                            // as much as the kernel takes
                try { connection.Program.Send(data); }
                catch (SocketException) { break; }
            for (int j = 0; j < 800 && i % 20 == 0; j++)           // more than the window, whatever was said of it
                connection.SendData(new byte[1400]);
        }
        guest.Settle();
        int waiting = guest.Backend.Connections.Sum(c => c.ToGuest + c.ToHost);
        Assert.InRange(waiting, 40 << 20, 64 << 20);
        Assert.All(guest.Backend.Connections, c => Assert.InRange(Math.Max(c.ToGuest, c.ToHost), 0, 1 << 20));
        foreach (FakeConnection connection in connections) connection.Dispose();
        AssertAlive(guest);
    }

    [Fact]
    public void A_card_without_room_makes_frames_wait_and_then_drops_them()
    {
        using var guest = new FakeGuest { Refuses = true };
        for (int i = 0; i < 5000; i++) guest.Send(Arp(FakeGuest.Address, FakeGuest.Host));
        guest.Settle();
        guest.Resume();
        Assert.Equal(512, guest.Settle().Count(f => f.Type == 0x806));
        AssertAlive(guest);
    }

    internal static void AssertAlive(FakeGuest guest)
    {
        guest.Settle();
        guest.Send(Udp(FakeGuest.Address, 68, "255.255.255.255", 67, Discover()));
        guest.Next(f => f.IsUdp && f.SourcePort == 67);
        guest.Send(Arp(FakeGuest.Address, FakeGuest.Host));
        guest.Next(f => f.Type == 0x806 && f.From.AsSpan().SequenceEqual(HostMac));
    }

    static byte[] Discover()
    {
        var message = new byte[244];
        (message[0], message[1], message[2]) = (1, 1, 6);
        GuestMac.CopyTo(message, 28);
        new byte[] { 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255 }.CopyTo(message, 236);
        return message;
    }
}
