using System.Text;
using Qkvm.Backends.Display.Curses;
using Qkvm.Core.Input;

namespace Qkvm.Backends.Tests.Display.Curses;

/// <summary>What terminals send for keys. Spec: xterm, "Control Sequences", "PC-Style Function Keys"; what rxvt and
/// Linux' console send in their place.</summary>
public class TerminalKeysTests
{
    static List<(KeyCode, KeyModifiers)> Keys(string sent, bool inPieces, bool flush = true)
    {
        var found = new List<(KeyCode, KeyModifiers)>();
        var keys = new TerminalKeys((key, _) => found.Add((key.Key, key.Modifiers)));
        byte[] bytes = Encoding.UTF8.GetBytes(sent);
        if (inPieces) foreach (byte one in bytes) keys.Feed([one]);
        else keys.Feed(bytes);
        if (flush) keys.Flush();
        return found;
    }

    [Theory]
    [InlineData("a", KeyCode.A, 0)] [InlineData("A", KeyCode.A, 1)] [InlineData("/", KeyCode.Slash, 0)]
    [InlineData("?", KeyCode.Slash, 1)] [InlineData(" ", KeyCode.Spc, 0)] [InlineData("~", KeyCode.GraveAccent, 1)]
    [InlineData("\r", KeyCode.Ret, 0)] [InlineData("\t", KeyCode.Tab, 0)] [InlineData("\u007F", KeyCode.Backspace, 0)]
    [InlineData("\u0003", KeyCode.C, 4)] [InlineData("\u001A", KeyCode.Z, 4)] [InlineData("\0", KeyCode.Spc, 4)]
    [InlineData("\u001C", KeyCode.Backslash, 4)] [InlineData("\u001D", KeyCode.BracketRight, 4)]
    [InlineData("\e", KeyCode.Esc, 0)] [InlineData("\ex", KeyCode.X, 2)] [InlineData("\eX", KeyCode.X, 3)]
    [InlineData("\e1", KeyCode.D1, 2)] [InlineData("\e\r", KeyCode.Ret, 2)] [InlineData("\e\u0003", KeyCode.C, 6)]
    [InlineData("\e[A", KeyCode.Up, 0)] [InlineData("\eOB", KeyCode.Down, 0)] [InlineData("\e[1;5C", KeyCode.Right, 4)]
    [InlineData("\e[1;2D", KeyCode.Left, 1)] [InlineData("\e[H", KeyCode.Home, 0)] [InlineData("\e[4~", KeyCode.End, 0)]
    [InlineData("\e[3;7~", KeyCode.Delete, 6)] [InlineData("\e[5;2~", KeyCode.PgUp, 1)]
    [InlineData("\eOP", KeyCode.F1, 0)] [InlineData("\e[1;3Q", KeyCode.F2, 2)] [InlineData("\e[[E", KeyCode.F5, 0)]
    [InlineData("\e[11~", KeyCode.F1, 0)] [InlineData("\e[15~", KeyCode.F5, 0)] [InlineData("\e[17~", KeyCode.F6, 0)]
    [InlineData("\e[21~", KeyCode.F10, 0)] [InlineData("\e[24~", KeyCode.F12, 0)] [InlineData("\e[Z", KeyCode.Tab, 1)]
    [InlineData("\e[7^", KeyCode.Home, 4)] [InlineData("\e[7$", KeyCode.Home, 1)] [InlineData("\e[a", KeyCode.Up, 1)]
    [InlineData("\e\e[A", KeyCode.Up, 2)] [InlineData("é", KeyCode.None, 0)] [InlineData("\e[200~", KeyCode.None, 0)]
    public void A_key_is_found_at_once_or_byte_by_byte(string sent, KeyCode key, int modifiers)
    {
        Assert.Equal([(key, (KeyModifiers)modifiers)], Keys(sent, inPieces: false));
        Assert.Equal([(key, (KeyModifiers)modifiers)], Keys(sent, inPieces: true));
    }

    [Fact]
    public void The_escape_key_waits_for_what_may_follow()
    {
        Assert.Empty(Keys("\e", inPieces: false, flush: false));
        Assert.Equal([(KeyCode.A, 0)], Keys("a\e", inPieces: false, flush: false));
        Assert.Equal([(KeyCode.BracketLeft, KeyModifiers.Alt)], Keys("\e[", inPieces: false));
        Assert.Equal([(KeyCode.O, KeyModifiers.Alt | KeyModifiers.Shift)], Keys("\eO", inPieces: false));
    }

    [Fact]
    public void Keys_one_after_the_other_are_kept_apart() =>
        Assert.Equal([(KeyCode.L, 0), (KeyCode.Up, 0), (KeyCode.S, 0), (KeyCode.Ret, 0)],
            Keys("l\e[As\r", inPieces: false));

    /// <summary>Whatever is typed ends in keys; nothing is kept for ever.</summary>
    [Fact]
    public void Noise_ends()
    {
        var random = new Random(7);
        for (int round = 0; round < 2000; round++)
        {
            int bytes = 0;
            var keys = new TerminalKeys((_, taken) => bytes += taken.Length);
            var noise = new byte[random.Next(200)];
            random.NextBytes(noise);
            for (int i = 0; i < noise.Length; i++)
                if (random.Next(3) == 0) noise[i] = (byte)"\e[O;1~"[random.Next(6)];
            keys.Feed(noise);
            keys.Flush();
            Assert.Equal(noise.Length, bytes);
            Assert.False(keys.IsWaiting);
        }
    }
}
