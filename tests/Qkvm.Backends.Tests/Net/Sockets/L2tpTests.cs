using Qkvm.Backends.Net.Sockets;

namespace Qkvm.Backends.Tests.Net.Sockets;

/// <summary>RFC 3931, and what QEMU sends.</summary>
public sealed class L2tpTests
{
    static readonly L2tpOptions Udp = new(IsUdp: true, IsIpv6: false, 0x11223344, 0x55667788);

    [Fact]
    public void Udp_begins_with_the_version_and_the_session() => Assert.Equal("0003000011223344", Written(Udp));

    [Fact]
    public void Ip_begins_with_the_session() => Assert.Equal("11223344", Written(Udp with { IsUdp = false }));

    [Fact]
    public void Cookie_counter_and_offset_follow()
    {
        Assert.Equal("0003000011223344AABBCCDD00000001", Written(Udp with { CookieLength = 4,
            TransmitCookie = 0xAABBCCDD, HasCounter = true }));
        Assert.Equal("0003000011223344AABBCCDD11223344000000", Written(Udp with { CookieLength = 8,
            TransmitCookie = 0xAABBCCDD11223344, Offset = 3 }));
        Assert.Equal("000300001122334400000000", Written(Udp with { HasCounter = true, IsCounterPinned = true }));
    }

    [Theory]
    [InlineData("00030000556677880102", 8)]
    [InlineData("00030000556677890102", -1)]                       // another session
    [InlineData("000300005566", -1)]
    [InlineData("", -1)]
    public void What_comes_must_be_of_the_session(string datagram, int start) =>
        Assert.Equal(start, new L2tpEnvelope(Udp).Open(Convert.FromHexString(datagram)));

    [Fact]
    public void Ipv4_leaves_its_header_before_it()
    {
        var envelope = new L2tpEnvelope(Udp with { IsUdp = false });
        byte[] datagram = [0x46, .. new byte[23], 0x55, 0x66, 0x77, 0x88, 1];
        Assert.Equal(28, envelope.Open(datagram));
        Assert.Equal(-1, envelope.Open(datagram.AsSpan(0, 27)));
    }

    [Fact]
    public void A_cookie_must_be_the_one_agreed_on()
    {
        var envelope = new L2tpEnvelope(Udp with { CookieLength = 8, ReceiveCookie = 0x0102030405060708 });
        Assert.Equal(16, envelope.Open(Convert.FromHexString("00030000556677880102030405060708FF")));
        Assert.Equal(-1, envelope.Open(Convert.FromHexString("00030000556677880102030405060709FF")));
    }

    [Fact]
    public void Late_and_repeated_frames_are_dropped_unless_the_counter_is_pinned()
    {
        var envelope = new L2tpEnvelope(Udp with { HasCounter = true });
        Assert.Equal([12, 12, -1, -1, 12, -1], ((uint[])[5, 7, 7, 6, 0x7FFF_0000, 3]).Select(n => Open(envelope, n)));
        var pinned = new L2tpEnvelope(Udp with { HasCounter = true, IsCounterPinned = true });
        Assert.Equal([12, 12], ((uint[])[5, 3]).Select(n => Open(pinned, n)));
    }

    static int Open(L2tpEnvelope envelope, uint counter) =>
        envelope.Open(Convert.FromHexString($"0003000055667788{counter:X8}"));

    static string Written(L2tpOptions options)
    {
        var envelope = new L2tpEnvelope(options);
        var datagram = new byte[envelope.Length + 60];
        envelope.Write(datagram);
        return Convert.ToHexString(datagram.AsSpan(0, envelope.Length));
    }
}
