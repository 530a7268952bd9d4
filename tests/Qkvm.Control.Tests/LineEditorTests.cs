using System.Text;
using Qkvm.Control.Hmp;

namespace Qkvm.Control.Tests;

public class LineEditorTests
{
    [Theory]
    [InlineData("info\r", "info")]
    [InlineData("inffo\b\bo\r", "info")]
    [InlineData("quit\u0001x\r", "xquit")]
    [InlineData("abc\u001b[D\u001b[D\u001b[3~\r", "ac")]
    [InlineData("abc def\u0017x\r", "abc x")]
    [InlineData("abc\u0015x\r", "x")]
    [InlineData("abc\u0001\u000b\r", "")]
    [InlineData("sto\t\r", "stop ")]
    public void Keys_edit_the_line(string typed, string line) => Assert.Equal([line], Type(typed, out _));

    [Fact]
    public void History_recalls_lines_and_forgets_repeats() =>
        Assert.Equal(["a", "b", "b", "a"], Type("a\rb\rb\r\u001b[A\u001b[A\r", out _));

    [Fact]
    public void Return_and_newline_are_one_key() => Assert.Equal(["a", "b"], Type("a\r\nb\r\n", out _));

    [Fact]
    public void The_terminal_shows_what_the_line_holds()
    {
        Type("abd\bc\u001b[Dx", out string screen);
        Assert.Equal("> abxc", Render(screen));
    }

    [Fact]
    public void An_endless_line_stays_bounded()
    {
        string line = Assert.Single(Type(new string('a', 100_000) + "\r", out _));
        Assert.Equal(4096, line.Length);
    }

    static List<string> Type(string keys, out string screen)
    {
        var printed = new StringBuilder();
        var editor =
            new LineEditor("> ", s => printed.Append(s),
            head => new[] { "stop", "quit" }.Where(w => w.StartsWith(head)).ToArray());
        editor.ShowPrompt();
        var lines = new List<string>();
        foreach (byte b in Encoding.ASCII.GetBytes(keys))
        {
            if (editor.Take(b) is not { } line) continue;
            lines.Add(line);
            editor.ShowPrompt();
        }
        screen = printed.ToString();
        return lines;
    }

    /// <summary>What a terminal shows of the last line after backspaces and overwriting.</summary>
    static string Render(string printed)
    {
        var cells = new List<char>();
        int at = 0;
        foreach (char c in printed)
        {
            if (c == '\b') { at--; continue; }
            if (at < cells.Count) cells[at] = c;
            else cells.Add(c);
            at++;
        }
        return new string([.. cells]).TrimEnd();
    }
}
