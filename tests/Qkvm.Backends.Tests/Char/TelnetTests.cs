using Qkvm.Backends.Char;

namespace Qkvm.Backends.Tests.Char;

/// <summary>RFC 854: what a client sends, however it is split over reads.</summary>
public class TelnetTests
{
    const byte Iac = 255, Dont = 254, Do = 253, Wont = 252, Will = 251, AreYouThere = 246, SubBegin = 250, Break = 243,
        SubEnd = 240;

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
        { [Iac, Will, 0, 13, 0, 13, 10, 7], [13, 0, 13, 10, 7] },  // RFC 856: binary data is as it is
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

    /// <summary>RFC 855, rule 2; RFC 1143, section 7. We asked for: WILL 0, 1, 3 and DO 0.</summary>
    public static TheoryData<byte[], byte[]> Negotiations => new()
    {
        { [Iac, Will, 31], [Iac, Dont, 31] },                      // window size
        { [Iac, Do, 24], [Iac, Wont, 24] },
        { [Iac, Do, 6], [Iac, Wont, 6] },
        { [Iac, Will, 255, Iac, Will, 31], [Iac, Dont, 255, Iac, Dont, 31] },
        { [Iac, Wont, 31, Iac, Dont, 24], [] },                    // so already
        { [Iac, Do, 0, Iac, Do, 1, Iac, Do, 3, Iac, Will, 0], [] },   // answers to our requests
        { [Iac, Dont, 1, Iac, Wont, 0], [] },
        { [Iac, Will, 3, Iac, Will, 3], [Iac, Do, 3] },            // once
        { [Iac, Will, 1], [Iac, Dont, 1] },                        // both may not echo
        { [Iac, Do, 1, Iac, Dont, 1, Iac, Dont, 1, Iac, Do, 1], [Iac, Wont, 1, Iac, Will, 1] },
        { [Iac, Will, 0, Iac, Wont, 0, Iac, Will, 0], [Iac, Dont, 0, Iac, Do, 0] },
        { [Iac, AreYouThere], "\r\n[yes]\r\n"u8.ToArray() },
    };

    [Theory, MemberData(nameof(Negotiations))]
    public void Options_are_answered_by_the_rules(byte[] sent, byte[] answered)
    {
        for (int split = 0; split <= sent.Length; split++)
        {
            var telnet = new Telnet();
            var answers = new List<byte>();
            foreach (byte[] part in new[] { sent[..split], sent[split..] })
            {
                Assert.Equal(0, telnet.Filter(part, out _));
                answers.AddRange(telnet.Answers);
            }
            Assert.Equal(answered, answers);
        }
    }
}
