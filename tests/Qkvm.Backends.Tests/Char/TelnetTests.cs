using Qkvm.Backends.Char;

namespace Qkvm.Backends.Tests.Char;

/// <summary>RFC 854: what a client sends, however it is split over reads.</summary>
public class TelnetTests
{
    const byte Iac = 255, Do = 253, Will = 251, SubBegin = 250, Break = 243, SubEnd = 240;

    public static TheoryData<byte[], byte[]> Streams => new()
    {
        { [1, 2, 3], [1, 2, 3] },
        { [1, Iac, Do, 1, 2], [1, 2] },
        { [Iac, Will, 3, Iac, Do, 1], [] },
        { [1, Iac, Iac, 2], [1, Iac, 2] },
        { [1, Iac, SubBegin, 24, 0, 65, Iac, SubEnd, 2], [1, 2] },
        { [1, Iac, SubBegin, 24, Iac, Iac, 65, Iac, SubEnd, 2], [1, 2] },
        { [(byte)'a', 13, 0, (byte)'b'], [(byte)'a', 13, (byte)'b'] },
        { [(byte)'a', 13, 10, (byte)'b'], [(byte)'a', 13, (byte)'b'] },
        { [13, Iac, Do, 1, 7], [13, 7] },
        { [Iac, SubBegin, 1, 2, 3], [] },
    };

    [Theory, MemberData(nameof(Streams))]
    public void Commands_disappear_and_data_stays(byte[] sent, byte[] received)
    {
        for (int split = 0; split <= sent.Length; split++)
        {
            var telnet = new Telnet();
            byte[] first = sent[..split], second = sent[split..];
            int a = telnet.Filter(first, out _), b = telnet.Filter(second, out _);
            Assert.Equal<byte[]>(received, [.. first[..a], .. second[..b]]);
        }
    }

    [Fact]
    public void A_break_command_is_counted()
    {
        new Telnet().Filter([1, Iac, Break, 2, Iac, Break], out int breaks);
        Assert.Equal(2, breaks);
    }
}
