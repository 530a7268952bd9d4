using System.Net;
using Qkvm.Core.Net;

namespace Qkvm.Core.Tests.Net;

/// <summary>Microsoft's "Verifying the RSS hash calculation": its key, flows and results.</summary>
public sealed class ToeplitzHashTests
{
    public const string Key = "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa";

    public static TheoryData<string, int, string, int, uint, uint> Flows => new()
    {
        { "66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e8fc2, 0x51ccc178 },
        { "199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718262a, 0xc626b0ea },
        { "24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0a5de, 0x5c2b394a },
        { "38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xafc7327f },
        { "153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d1809c5, 0x10e828a2 },
        { "3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc18cd5, 0x40207d3d },
        { "3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c461c, 0xdde51bbf },
        { "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4b61e985, 0x02d1feef },
    };

    [Theory]
    [MemberData(nameof(Flows))]
    public void It_gives_the_published_values(string source, int sourcePort, string target, int targetPort,
        uint ofAddresses, uint ofPorts)
    {
        var hash = new ToeplitzHash(Convert.FromHexString(Key));
        byte[] addresses = [.. IPAddress.Parse(source).GetAddressBytes(), .. IPAddress.Parse(target).GetAddressBytes()];
        Assert.Equal(ofAddresses, hash.Of(addresses));
        byte[] ports = [(byte)(sourcePort >> 8), (byte)sourcePort, (byte)(targetPort >> 8), (byte)targetPort];
        Assert.Equal(ofPorts, hash.Of([.. addresses, .. ports]));
    }

    [Fact]
    public void A_short_key_goes_on_with_zeros()
    {
        Assert.Equal(0u, new ToeplitzHash([]).Of([1, 2, 3, 4]));
        Assert.Equal(0x01020304u << 1, new ToeplitzHash([1, 2, 3, 4]).Of([0x40]));
        Assert.Equal(0u, new ToeplitzHash([1, 2, 3, 4]).Of([0, 0, 0, 0, 0xFF]));
    }
}
