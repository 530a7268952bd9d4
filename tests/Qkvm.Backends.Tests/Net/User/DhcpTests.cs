using Qkvm.Backends.Net.User;
using Qkvm.Host.Sockets;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>RFC 2131, and what libslirp gives.</summary>
public sealed class DhcpTests
{
    const byte Discover = 1, Offer = 2, Request = 3, Ack = 5, Nak = 6;
    static readonly byte[] s_first = [10, 0, 2, 15];

    [Fact]
    public void A_guest_gets_its_address_router_and_nameserver()
    {
        using var guest = new FakeGuest();
        Frame offer = Ask(guest, [53, 1, Discover]);
        Assert.Equal(Broadcast, offer.To);
        Assert.Equal(HostMac, offer.From);
        Assert.Equal(("10.0.2.2", "255.255.255.255", 67, 68), (offer.Source, offer.Destination, offer.SourcePort,
            offer.DestinationPort));
        Assert.Equal(548, offer.Data.Length);
        Assert.Equal(s_first, offer.Data[16..20]);
        Assert.Equal([10, 0, 2, 2], offer.Data[20..24]);
        Assert.Equal([53, 1, Offer, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3,
            51, 4, 0, 1, 0x51, 0x80, 255], Options(offer)[..34]);
        Frame ack = Ask(guest, [53, 1, Request, 50, 4, .. s_first]);
        Assert.Equal((Ack, 15), (Options(ack)[2], ack.Data[19]));
    }

    [Fact]
    public void Any_free_address_of_the_pool_is_granted_and_others_are_not()
    {
        using var guest = new FakeGuest();
        Frame ack = Ask(guest, [53, 1, Request, 50, 4, 10, 0, 2, 30]);
        Assert.Equal((Ack, 30), (Options(ack)[2], ack.Data[19]));
        Frame nak = Ask(guest, [53, 1, Request, 50, 4, 10, 0, 2, 31]);
        Assert.Equal([255, 255, 255, 255], nak.Data[16..20]);
        Assert.Equal([53, 1, Nak, 56, 31, .. "requested address not available"u8, 255], Options(nak)[..37]);
        Frame others = Ask(guest, [53, 1, Request, 50, 4, 10, 0, 2, 30], client: 7); // somebody else's
        Assert.Equal(Nak, Options(others)[2]);
    }

    [Fact]
    public void A_pool_without_free_addresses_gives_none()
    {
        using var guest = new FakeGuest();
        for (byte i = 0; i < 16; i++) Assert.Equal(15 + i, Ask(guest, [53, 1, Discover], client: i).Data[19]);
        guest.Send(Message([53, 1, Discover], client: 16));
        Assert.Empty(guest.Settle());
        Assert.Equal(15 + 4, Ask(guest, [53, 1, Discover], client: 4).Data[19]); // those that have one keep it
        guest.Send(Message([53, 1, 7], client: 4));                // RELEASE
        Assert.Equal(15 + 4, Ask(guest, [53, 1, Discover], client: 16).Data[19]);
    }

    [Fact]
    public void Names_boot_file_and_search_list_are_told()
    {
        using var guest = new FakeGuest(UserNetOptions.Default("n") with
        {
            HostName = "vm", DomainName = "a.b", TftpServerName = "t", BootFile = "pxe.0",
            SearchDomains = ["x.y", "z"], Restrict = true,
        });
        Frame offer = Ask(guest, [53, 1, Discover]);
        Assert.Equal("pxe.0\0"u8.ToArray(), offer.Data[108..114]);
        byte[] options = Options(offer);
        Assert.Equal([1, 4, 255, 255, 255, 0, 51], options[9..16]); // neither router nor nameserver
        Assert.Equal([12, 2, .. "vm"u8, 15, 3, .. "a.b"u8, 66, 1, .. "t"u8, 119, 8, 1, .. "x"u8, 1, .. "y"u8, 0, 1,
            .. "z"u8, 0, 255], options[21..44]);
    }

    [Fact]
    public void Plain_BOOTP_is_answered()
    {
        using var guest = new FakeGuest();
        Frame reply = Ask(guest, []);
        Assert.Equal(s_first, reply.Data[16..20]);
        Assert.Equal(54, Options(reply)[0]);
    }

    [Fact]
    public void Broken_messages_are_ignored()
    {
        using var guest = new FakeGuest();
        byte[] good = Message([53, 1, Discover, 255]);
        for (int length = 0; length < 42 + 236; length++) guest.Send(good[..length]); // cut: lengths do not fit
        foreach (byte[] options in (byte[][])[[53], [53, 255, 1], [53, 0], [53, 2, 1, 1], [1, 250, 1], [53, 1, 200]])
            guest.Send(Message(options, pad: 0));
        byte[] longAddress = Message([53, 1, Discover]);
        longAddress[42 + 2] = 16;                                  // hlen
        guest.Send(longAddress);
        // those without a type are plain BOOTP, and get what that gets
        Assert.All(guest.Settle(), f => Assert.Equal(54, Options(f)[0]));
        Assert.Equal(Offer, Options(Ask(guest, [53, 1, Discover]))[2]);
    }

    static byte[] Options(Frame frame) => frame.Data[240..];

    static Frame Ask(FakeGuest guest, byte[] options, byte client = 0x56)
    {
        guest.Send(Message(options, client));
        return guest.Next(f => f.IsUdp && f.SourcePort == 67);
    }

    static byte[] Message(byte[] options, byte client = 0x56, int pad = 60)
    {
        var message = new byte[240];
        (message[0], message[1], message[2]) = (1, 1, 6);
        GuestMac.CopyTo(message, 28);
        message[33] = client;
        new byte[] { 0x63, 0x82, 0x53, 0x63 }.CopyTo(message, 236);
        byte[] end = pad > 0 ? [255, .. new byte[pad]] : [];
        return Udp("0.0.0.0", 68, "255.255.255.255", 67, [.. message, .. options, .. end]);
    }
}
