using System.Text;
using Qkvm.Control.Gdb;

namespace Qkvm.Control.Tests;

/// <summary>What becomes of what debuggers send, and worse.</summary>
public class GdbPacketTests
{
    static List<string> Feed(PacketReader reader, ReadOnlySpan<byte> data)
    {
        var seen = new List<string>();
        foreach (byte b in data)
        {
            GdbInput input = reader.Take(b);
            if (input == GdbInput.Packet) seen.Add(Encoding.Latin1.GetString(reader.Packet));
            else if (input != GdbInput.Nothing) seen.Add($"!{input}");
        }
        return seen;
    }

    [Theory]
    [InlineData("$g#67", "g")]
    [InlineData("$#00", "")]
    [InlineData("+$?#3f$m0,4#fd", "!Acknowledged", "?", "m0,4")]
    [InlineData("-", "!NotAcknowledged")]
    [InlineData("\u0003", "!Interrupt")]
    [InlineData("$X0,1:\u0003#22", "X0,1:\u0003")]                 // inside it is data
    [InlineData("$}\u0003}]#5a", "#}")]
    [InlineData("$}}#fa", "]")]
    [InlineData("$g#68", "!Damaged")]
    [InlineData("$g#zz", "!Damaged")]
    [InlineData("$g#6", new string[0])]
    [InlineData("$garb$g#67", "g")]
    [InlineData("GET / HTTP/1.0\r\n\r\n", new string[0])]
    [InlineData("#67}}$g#67", "g")]
    public void Bytes_become_packets(string data, params string[] expected) =>
        Assert.Equal(expected, Feed(new PacketReader(), Encoding.Latin1.GetBytes(data)));

    [Fact]
    public void Without_acknowledgements_checksums_do_not_count() =>
        Assert.Equal(["g"], Feed(new PacketReader { ChecksSums = false }, "$g#00"u8));

    [Fact]
    public void A_packet_that_is_too_long_is_told_and_the_next_one_taken()
    {
        var reader = new PacketReader();
        byte[] data = [(byte)'$', .. Enumerable.Repeat((byte)'0', 1 << 20), .. "#00$g#67"u8];
        Assert.Equal(["!TooLong", "g"], Feed(reader, data));
    }

    [Fact]
    public void What_is_framed_is_read_as_it_was()
    {
        byte[] all = [.. Enumerable.Range(0, 256).Select(i => (byte)i)];
        byte[] framed = GdbProtocol.Frame(all);
        Assert.DoesNotContain((byte)'*', framed);                  // would repeat what is before
        Assert.Equal([Encoding.Latin1.GetString(all)], Feed(new PacketReader(), framed));
    }

    /// <summary>Whatever comes, a good packet behind it is understood.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Random_bytes_do_no_harm(int seed)
    {
        var random = new Random(seed);
        var reader = new PacketReader();
        ReadOnlySpan<byte> special = "$#}+-\u0003*:;,=0a"u8;
        for (int round = 0; round < 2000; round++)
        {
            var data = new byte[random.Next(200)];
            for (int i = 0; i < data.Length; i++)
                data[i] = random.Next(3) == 0 ? (byte)random.Next(256) : special[random.Next(special.Length)];
            Feed(reader, data);
            // The first may end a packet that was left open.
            Assert.Equal("qC", Feed(reader, "#00$qC#b4"u8)[^1]);
        }
    }

    [Theory]
    [InlineData("1", 0)]
    [InlineData("a", 9)]
    [InlineData("p1.2", 1)]
    [InlineData("p01.02", 1)]
    [InlineData("p0.2", 1)]
    [InlineData("0", -1)]
    [InlineData("p1.0", -1)]
    [InlineData("-1", -2)]
    [InlineData("p1.-1", -2)]
    [InlineData("p-1.-1", -2)]
    [InlineData("p1", -2)]
    [InlineData("p2.1", null)]
    [InlineData("b", null)]
    [InlineData("-2", null)]
    [InlineData("p", null)]
    [InlineData("p1.", null)]
    [InlineData("", null)]
    [InlineData("ffffffff", null)]
    [InlineData("p1.1.1", null)]
    public void Threads_have_names(string text, int? cpu)
    {
        Assert.Equal(cpu != null, ThreadId.TryParse(text, 10, out ThreadId id));
        if (cpu != null) Assert.Equal(cpu, id.Cpu);
    }
}
