using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Backends.Display.Consoles;
using Qkvm.Core.Char;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Tests.Display.Curses;

/// <summary>Text consoles: vc. Spec: ECMA-48; DEC, "VT100 User Guide".</summary>
public class ConsoleTests
{
    readonly ConsoleScreen _screen = new(10, 4);
    readonly List<string> _replies = [];
    readonly ConsoleParser _parser;

    public ConsoleTests() =>
        _parser = new ConsoleParser(_screen, reply => _replies.Add(Encoding.ASCII.GetString(reply)));

    public static string[] Lines(Action<TextScreen> paint)
    {
        var text = new TextScreen();
        paint(text);
        return [.. Enumerable.Range(0, text.Rows).Select(row => string.Concat(text.Row(row).ToArray()
            .Select(cell => cell.Character)).TrimEnd())];
    }

    void AssertShows(string written, params string[] lines)
    {
        _parser.Write(Encoding.UTF8.GetBytes(written));
        Assert.Equal(lines, Lines(_screen.Paint).Take(lines.Length));
    }

    [Fact]
    public void Text_wraps_when_the_next_character_comes_and_scrolls_at_the_end()
    {
        AssertShows("0123456789", "0123456789", "");
        AssertShows("\rA", "A123456789", "");
        AssertShows("\r\n0123456789x\r\nc\r\nd\r\ne", "x", "c", "d", "e");
    }

    [Theory]
    [InlineData("ab\bc", "ac")] [InlineData("a\tb", "a       b")] [InlineData("abc\e[2Dx", "axc")]
    [InlineData("abc\r\e[K", "")] [InlineData("abc\e[1K\rx", "x")] [InlineData("abc\e[2Jd", "   d")]
    [InlineData("abc\e[3G\e[Px", "abx")] [InlineData("abc\r\e[2@", "  abc")] [InlineData("abc\r\e[2X", "  c")]
    [InlineData("\e[5;99Hab\e[Hx", "x")] [InlineData("a\e7b\e8c", "ac")] [InlineData("\e]0;title\ab", "b")]
    [InlineData("\e]0;title\e\\b", "b")] [InlineData("\e(Bx", "x")] [InlineData("\e[?25l\e[?1049hx", "x")]
    [InlineData("naïve─│", "naïve─│")] [InlineData("a\u0301b", "ab")] [InlineData("漢", "\uFFFD")]
    [InlineData("\u202Ex\u200B", "x")] [InlineData("😀", "\uFFFD")] [InlineData("\u0085x", "x")]
    public void Control_sequences_do_what_they_are_for(string written, string line) => AssertShows(written, line);

    [Fact]
    public void Broken_UTF_8_is_replaced()
    {
        _parser.Write([0xE2, 0x82, (byte)'A', 0x80, 0xC3]);
        _parser.Write([0xA9]);
        Assert.Equal("\uFFFDA\uFFFDé", Lines(_screen.Paint)[0]);
    }

    [Fact]
    public void Lines_are_inserted_and_deleted_and_regions_scroll()
    {
        AssertShows("1\r\n2\r\n3\r\n4\e[2;1H\e[L", "1", "", "2", "3");
        AssertShows("\e[2;1H\e[M", "1", "2", "3", "");
        AssertShows("\e[2;3r\e[3;1H\n", "1", "3", "", "");
        AssertShows("\e[r\e[H\eM", "", "1", "3", "");
        AssertShows("\e[S", "1", "3", "", "");
    }

    [Fact]
    public void Colours_are_those_of_PCs_and_of_xterm()
    {
        _parser.Write("\e[31;44ma\e[1mb\e[0;7mc\e[38;5;196;48;2;1;2;3md\e[me"u8);
        var text = new TextScreen();
        _screen.Paint(text);
        TextCell[] expected =
        [
            new('a', 0xAA0000, 0x0000AA), new('b', 0xFF5555, 0x0000AA), new('c', 0, 0xAAAAAA),
            new('d', 0x010203, 0xFF0000), new('e', 0xAAAAAA, 0),
        ];
        Assert.Equal(expected, text.Row(0)[..5].ToArray());
    }

    [Fact]
    public void It_tells_where_the_cursor_is()
    {
        _parser.Write("ab\r\nc\e[6n\e[5n"u8);
        Assert.Equal(["\e[2;2R", "\e[0n"], _replies);
    }

    [Fact]
    public void Lines_that_went_by_can_be_looked_at()
    {
        for (int i = 0; i < 1000; i++) _parser.Write(Encoding.ASCII.GetBytes($"{i}\r\n"));
        _screen.LookBack(3);
        Assert.Equal(["994", "995", "996", "997"], Lines(_screen.Paint));
        _parser.Write("more\r\n"u8);
        Assert.Equal(["994", "995", "996", "997"], Lines(_screen.Paint));      // who looks back goes on seeing it
        _screen.LookBack(int.MaxValue / 2);
        Assert.Equal($"{1001 - 3 - ConsoleScreen.History}", Lines(_screen.Paint)[0]);
        _screen.LookAhead();
        Assert.Equal(["998", "999", "more", ""], Lines(_screen.Paint));
    }

    [Fact]
    public void Noise_does_no_harm()
    {
        var random = new Random(3);
        const string bits = "\e[;0123456789ABCDHJKLMPX@STmnrsu?\r\n\t\b78cDEM";
        for (int round = 0; round < 20_000; round++)
        {
            var noise = new byte[random.Next(60)];
            for (int i = 0; i < noise.Length; i++)
                noise[i] = random.Next(8) == 0 ? (byte)random.Next(256) : (byte)bits[random.Next(bits.Length)];
            _parser.Write(noise);
            _screen.LookBack(random.Next(-5, 6));
        }
        Assert.All(Lines(_screen.Paint), line => Assert.DoesNotContain(line, char.IsControl));
    }

    sealed class Listener : ICharFrontend
    {
        public readonly List<byte> Heard = [];
        public int Room { get; set; } = 2;

        public void Receive(ReadOnlySpan<byte> data)
        {
            Heard.AddRange(data);
            Room -= data.Length;
        }
    }

    [Fact]
    public void What_is_typed_waits_for_room_up_to_a_bound()
    {
        var all = new List<ITextConsole>();
        using var console = new ConsoleChar("serial0", 80, 24, all);
        var guest = new Listener();
        console.Connect(guest);
        console.Type("hello"u8);
        Assert.Equal("he"u8.ToArray(), guest.Heard);
        guest.Room = 100;
        console.AcceptInput();
        Assert.Equal("hello"u8.ToArray(), guest.Heard);
        guest.Room = 0;
        for (int i = 0; i < 1000; i++) console.Type(new byte[100]);
        guest.Room = int.MaxValue;
        console.AcceptInput();
        Assert.Equal(5 + 4096, guest.Heard.Count);
    }
}
