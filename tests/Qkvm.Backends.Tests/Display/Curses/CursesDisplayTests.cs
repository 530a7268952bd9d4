using System.Collections.Concurrent;
using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Backends.Display.Consoles;
using Qkvm.Backends.Display.Curses;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tests.Display.Curses;

/// <summary>The whole display at one end of a pseudo terminal, and somebody who looks and types at the other.</summary>
public sealed class CursesDisplayTests : IDisplaySource, IKeyboardSink, IDisposable
{
    readonly MachineLock _lock = new();
    readonly EventLoop _loop;
    readonly Thread _thread;
    readonly DisplayParts _parts;
    readonly CursesDisplay _display;
    readonly int _terminal, _slave;
    readonly ConsoleScreen _seen = new(80, 25);
    readonly ConsoleParser _parser;
    readonly StringBuilder _sent = new();
    readonly BlockingCollection<(KeyCode, bool)> _keys = [];
    string _text = "";
    bool _isGraphics;

    public CursesDisplayTests()
    {
        _loop = new EventLoop(_lock.Run);
        (_terminal, string path) = TerminalMode.OpenPseudoTerminal();
        _slave = Libc.open(path, Libc.ORdWr | Libc.ONonBlock | Libc.ONoCtty | Libc.OCloexec, 0);
        _parser = new ConsoleParser(_seen, _ => { });
        _parts = new DisplayParts(this, new InputRouter(), _loop, "a name", _ => { });
        using (_lock.Hold())
        {
            _parts.Input.Add(this);
            _display = new CursesDisplay(_parts, new DescriptorTransport(_slave, _slave, endsOnlyInput: false),
                () => (80, 25), new TerminalKind(256, IsUnicode: true, HasTitle: true), CodePage.Find("CP437")!);
        }
        _thread = new Thread(_loop.Run) { IsBackground = true };
        _thread.Start();
    }

    public void Dispose()
    {
        _loop.Stop();
        _thread.Join();
        using (_lock.Hold()) _display.Dispose();
        _loop.Dispose();
        Libc.close(_slave);
        Libc.close(_terminal);
    }

    void IDisplaySource.Paint(FrameBuffer target) => target.Resize(1024, 768);

    bool IDisplaySource.PaintText(TextScreen target)
    {
        if (_isGraphics) return false;
        target.Resize(80, 25);
        (target.ShowsGlyphs, target.Cursor) = (true, (_text.Length, 0));
        for (int y = 0; y < 25; y++)
            for (int x = 0; x < 80; x++)
                target.Row(y)[x] = new(y == 0 && x < _text.Length ? _text[x] : ' ', 0xAAAAAA, 0);
        return true;
    }

    void IKeyboardSink.Key(KeyCode key, bool down) => _keys.Add((key, down));
    bool IKeyboardSink.HasRoom => true;
    KeyboardLocks IKeyboardSink.Lights => KeyboardLocks.None;
    event Action? IKeyboardSink.Changed { add { } remove { } }

    /// <summary>Reads until the terminal shows it.</summary>
    void AssertSees(string text)
    {
        var some = new byte[4096];
        var wait = System.Diagnostics.Stopwatch.StartNew();
        while (!ConsoleTests.Lines(_seen.Paint).Any(line => line.Contains(text, StringComparison.Ordinal)))
        {
            int count = FdStream.Read(_terminal, some);
            if (count > 0)
            {
                _parser.Write(some.AsSpan(0, count));
                _sent.Append(Encoding.Latin1.GetString(some, 0, count));
            }
            else Thread.Sleep(5);
            if (wait.Elapsed > VncBench.Hang)
                Assert.Fail($"never saw '{text}' but {string.Join('|', ConsoleTests.Lines(_seen.Paint))}");
        }
    }

    void Type(string text) => FdStream.Write(_terminal,
        Encoding.UTF8.GetBytes(text));

    void Change(Action change) => _lock.Run(change);

    void AssertTyped(params (KeyCode, bool)[] keys)
    {
        foreach ((KeyCode, bool) expected in keys)
        {
            Assert.True(_keys.TryTake(out (KeyCode, bool) key, VncBench.Hang));
            Assert.Equal(expected, key);
        }
    }

    [Fact]
    public void The_screen_is_seen_and_so_are_its_changes()
    {
        Change(() => _text = "GRUB \u00DB");
        AssertSees("GRUB █");
        Change(() => _text = "login:");
        AssertSees("login:");
        Change(() => _isGraphics = true);
        AssertSees("1024 x 768 Graphic mode");
        Change(() => _isGraphics = false);
        AssertSees("login:");
        Assert.StartsWith("\e[?1049h", _sent.ToString());
    }

    [Fact]
    public void Keys_reach_the_guest_with_those_that_are_held()
    {
        AssertSees("");
        Type("aB\u0003");
        AssertTyped((KeyCode.A, true), (KeyCode.A, false),
            (KeyCode.Shift, true), (KeyCode.B, true), (KeyCode.B, false), (KeyCode.Shift, false),
            (KeyCode.Ctrl, true), (KeyCode.C, true), (KeyCode.C, false), (KeyCode.Ctrl, false));
        Type("\e[24~\ex");
        AssertTyped((KeyCode.F12, true), (KeyCode.F12, false),
            (KeyCode.Alt, true), (KeyCode.X, true), (KeyCode.X, false), (KeyCode.Alt, false));
        Type("\e");                                                // by itself, after a while
        AssertTyped((KeyCode.Esc, true), (KeyCode.Esc, false));
    }

    [Fact]
    public void Alt_and_a_number_switch_to_the_consoles_the_monitor_first()
    {
        ConsoleChar serial = new("serial0", 80, 24, _parts.Backends.Consoles),
            monitor = new("compat_monitor0", 80, 24, _parts.Backends.Consoles);
        Change(() =>
        {
            _parts.Backends.Consoles.AddRange([serial, monitor]);
            serial.Write("a kernel"u8);
            monitor.Write("(qemu) "u8);
            _text = "a screen";
        });
        AssertSees("a screen");
        Type("\e2");
        AssertSees("(qemu)");
        Type("\e3");
        AssertSees("a kernel");
        Type("\e9");                                               // there is none
        Type("\e1");
        AssertSees("a screen");
        Assert.Empty(_keys);
    }

    [Fact]
    public void The_terminal_is_put_back()
    {
        Change(() => _text = "something");
        AssertSees("something");
        Change(_display.Dispose);
        var rest = new byte[1 << 16];
        int count = FdStream.Read(_terminal, rest);
        Assert.EndsWith("\e[m\e[?7h\e[?25h\e[?1049l\e[23;0t", Encoding.Latin1.GetString(rest, 0, count));
    }

    /// <summary>Somebody pressed ctrl-s, or the network hangs: the loop never waits, and nothing piles up.</summary>
    [Fact]
    public void A_terminal_that_does_not_read_holds_up_nobody()
    {
        for (int i = 0; i < 300; i++)
            Change(() =>
            {
                _text = new string((char)('a' + i % 26), 79);
                _display.OnResized();                              // everything is sent again
            });
        Change(() => _text = "the end");
        AssertSees("the end");
    }
}
