using System.Text;
using Qkvm.Backends.Display.Consoles;
using Qkvm.Backends.Display.Curses;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Tests.Display.Curses;

/// <summary>A text console of ours is the terminal: it shows what the guest's screen does.</summary>
public class TerminalPictureTests
{
    static readonly CodePage s_page = CodePage.Find(CodePage.Default)!;

    static TextScreen Screen(int columns, int rows, Func<int, int, TextCell> cell, (int, int)? cursor = null)
    {
        var screen = new TextScreen { ShowsGlyphs = true, Cursor = cursor };
        screen.Resize(columns, rows);
        for (int y = 0; y < rows; y++)
            for (int x = 0; x < columns; x++) screen.Row(y)[x] = cell(x, y);
        return screen;
    }

    static TextCell Glyph(int code) => new((char)code, 0xAAAAAA, 0);

    sealed class FakeTerminal
    {
        public readonly TerminalPicture Picture;
        readonly ConsoleParser _parser;

        public FakeTerminal(int columns, int rows, TerminalKind kind)
        {
            Screen = new ConsoleScreen(columns, rows);
            _parser = new ConsoleParser(Screen, _ => { });
            Picture = new TerminalPicture(kind);
            Picture.Resize(columns, rows);
        }

        public ConsoleScreen Screen { get; }

        /// <returns>The bytes sent.</returns>
        public byte[] Show(TextScreen screen)
        {
            byte[] sent = Picture.Paint(screen, s_page).ToArray();
            _parser.Write(sent);
            return sent;
        }

        public string[] Lines => ConsoleTests.Lines(Screen.Paint);
    }

    [Fact]
    public void All_glyphs_arrive_as_printable_characters()
    {
        var terminal = new FakeTerminal(16, 16, new TerminalKind(256, IsUnicode: true));
        byte[] sent = terminal.Show(Screen(16, 16, (x, y) => Glyph(y * 16 + x)));
        Assert.Equal(" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼", terminal.Lines[0]);
        Assert.Equal("αßΓπΣσµτΦΘΩδ∞φε∩", terminal.Lines[14]);
        string text = Encoding.UTF8.GetString(sent);
        Assert.DoesNotContain(text, c => char.IsControl(c) && c != '\e');
        Assert.DoesNotMatch("\e(?!\\[[0-9;?]*[Hhlm])", text);
    }

    [Theory]
    [InlineData(256, true)] [InlineData(256, false)] [InlineData(16, true)] [InlineData(0, false)]
    public void Changes_alone_are_sent_and_the_terminal_follows(int colors, bool unicode)
    {
        var random = new Random(1);
        uint[] ink = [0xAAAAAA, 0xFF5555, 0x0000AA];
        var cells = new TextCell[25, 80];
        for (int y = 0; y < 25; y++)
            for (int x = 0; x < 80; x++) cells[y, x] = Glyph(' ');
        var terminal = new FakeTerminal(80, 25, new TerminalKind(colors, unicode));
        for (int round = 0; round < 50; round++)
        {
            for (int i = 0; i < 20; i++)
                cells[random.Next(25), random.Next(80)] = new((char)random.Next('!', 'z'), ink[random.Next(3)], 0);
            (int, int) cursor = (random.Next(80), random.Next(25));
            TextScreen screen = Screen(80, 25, (x, y) => cells[y, x], cursor);
            byte[] sent = terminal.Show(screen);
            Assert.InRange(sent.Length, 0, round == 0 ? 80 * 25 * 3 : 20 * 40 + 40);
            Assert.Equal(ConsoleTests.Lines(target => Copy(screen, target)), terminal.Lines);
            Assert.Equal(cursor, (terminal.Screen.Column, terminal.Screen.Row));
            Assert.Empty(terminal.Show(screen));
        }

        static void Copy(TextScreen from, TextScreen to)
        {
            to.Resize(from.Columns, from.Rows);
            for (int y = 0; y < from.Rows; y++) from.Row(y).CopyTo(to.Row(y));
        }
    }

    [Fact]
    public void A_small_screen_stands_in_the_middle_and_of_a_large_one_the_part_with_the_cursor_is_seen()
    {
        var terminal = new FakeTerminal(10, 5, new TerminalKind(256, true));
        terminal.Show(Screen(4, 1, (_, _) => Glyph('x')));
        Assert.Equal(["", "", "   xxxx", "", ""], terminal.Lines);
        terminal.Show(Screen(40, 20, (x, y) => Glyph('a' + y), (39, 19)));
        Assert.Equal(["pppppppppp", "qqqqqqqqqq", "rrrrrrrrrr", "ssssssssss", "tttttttttt"], terminal.Lines);
        Assert.Equal((9, 4), (terminal.Screen.Column, terminal.Screen.Row));
        terminal.Show(Screen(40, 20, (x, y) => Glyph('a' + y), (0, 0)));
        Assert.Equal("aaaaaaaaaa", terminal.Lines[0]);
        Assert.False(terminal.Screen.HidesCursor);
        terminal.Show(Screen(4, 1, (_, _) => Glyph('x')));
        Assert.True(terminal.Screen.HidesCursor);
    }

    [Fact]
    public void A_terminal_of_another_size_gets_everything_anew()
    {
        var terminal = new FakeTerminal(10, 5, new TerminalKind(256, true));
        TextScreen screen = Screen(10, 5, (x, _) => Glyph('0' + x));
        terminal.Show(screen);
        Assert.Empty(terminal.Show(screen));
        terminal.Picture.Resize(10, 5);
        Assert.NotEmpty(terminal.Show(screen));
    }

    [Theory]
    [InlineData(0x000000, 16, 0)] [InlineData(0xFFFFFF, 231, 15)] [InlineData(0xAA0000, 124, 1)]
    [InlineData(0x5555FF, 63, 12)] [InlineData(0x808080, 244, 7)] [InlineData(0xAAAAAA, 248, 7)]
    public void The_nearest_colour_is_chosen(uint color, int of256, int of16)
    {
        Assert.Equal(of16, TerminalColors.Nearest16(color));
        Assert.Equal(of256, TerminalColors.Nearest256(color));
    }

    [Theory]
    [InlineData("xterm-256color", "C.UTF-8", 256, true)] [InlineData("linux", "C", 16, false)]
    [InlineData("vt220", null, 0, false)] [InlineData("tmux-256color", "de_DE.utf8", 256, true)]
    public void The_environment_tells_what_a_terminal_can_do(string term, string? lang, int colors, bool unicode)
    {
        TerminalKind? kind = TerminalKind.Of(name => name switch { "TERM" => term, "LANG" => lang, _ => null });
        Assert.Equal((colors, unicode), (kind!.Colors, kind.IsUnicode));
    }

    [Theory]
    [InlineData(null)] [InlineData("")] [InlineData("dumb")]
    public void A_terminal_that_cannot_place_its_cursor_shows_no_screen(string? term) =>
        Assert.Null(TerminalKind.Of(name => name == "TERM" ? term : null));

    [Fact]
    public void Code_pages_have_no_control_characters_and_are_found_by_their_names()
    {
        foreach (string name in CodePage.Names)
            for (int i = 0; i < 256; i++) Assert.False(char.IsControl(CodePage.Find(name)![i]));
        Assert.Equal('ø', CodePage.Find("ibm850")![0x9B]);
        Assert.Equal('¢', CodePage.Find("cp437")![0x9B]);
        Assert.Null(CodePage.Find("EBCDIC"));
    }
}
