using System.Runtime.InteropServices;
using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display.Curses;

/// <summary>-display curses: the screen's characters on the terminal that the program was started on, with the text
/// consoles behind alt-2, alt-3 and so on.</summary>
/// <remarks>Main loop, under the machine lock. A terminal that does not read gets the next picture when it has read the
/// last one.</remarks>
public sealed class CursesDisplay : IConnectionUser, IDisposable
{
    public static readonly DisplayModel Model = new("curses",
        [
            Property.Text("charset", CodePage.Default, "of the guest's font: CP437, CP850, ISO-8859-1 …"),
            .. WindowDisplay.Common,
            Property.Missing("gl", "off", "leave it out, or write gl=off: a terminal draws text alone"),
        ], static (properties, parts) => Open(properties, parts))
    { Description = "the screen's text on this terminal" };

    const int FastMilliseconds = 40, SlowMilliseconds = 120, EscapeMilliseconds = 40, KeyDelay = 10;
    const int Input = 0, Output = 1, MaxPending = 4 << 20, WindowChanged = 28; // SIGWINCH

    readonly DisplayParts _parts;
    readonly Func<(int Columns, int Rows)> _size;
    readonly CodePage _page;
    readonly TerminalKind _kind;
    readonly Connection _connection;
    readonly TerminalPicture _picture;
    readonly TerminalKeys _keys;
    readonly Timer _timer, _escape;
    readonly TextScreen _text = new();
    readonly FrameBuffer _graphics = new();
    int _shown;                                                    // 0: the guest's screen; n: the n-th console
    bool _hasEntered, _isGone;

    /// <param name="transport">The terminal, in raw mode.</param>
    /// <param name="size">Its present one.</param>
    internal CursesDisplay(DisplayParts parts, ITransport transport, Func<(int, int)> size, TerminalKind kind,
        CodePage page)
    {
        (_parts, _size, _kind, _page, _picture) = (parts, size, kind, page, new TerminalPicture(kind));
        _keys = new TerminalKeys(OnKey);
        _connection = new Connection(transport, parts.Loop, this, MaxPending);
        _timer = new Timer(_ => parts.Loop.Post(Tick));
        _escape = new Timer(_ => parts.Loop.Post(() => { if (!_isGone) _keys.Flush(); }));
        parts.Loop.Post(Enter);                                    // once the machine is there, and all was said
    }

    /// <exception cref="ConfigurationException">There is no terminal, or others use it.</exception>
    static Terminal Open(Properties properties, DisplayParts parts)
    {
        string charset = properties.Required("charset");
        CodePage page = CodePage.Find(charset) ?? throw properties.Error($"charset={charset}: there are "
            + string.Join(", ", CodePage.Names));
        if (StdioChar.In(parts.Backends) is { } user)
            throw properties.Error($"chardev '{user.Id}' uses this terminal already; send that elsewhere, such as to "
                + "vc, a pty or a socket");
        if (Console.IsInputRedirected || Console.IsOutputRedirected)
            throw properties.Error("We need a terminal output; start it on a terminal, or use -display vnc=:0");
        TerminalKind kind = TerminalKind.Of(Environment.GetEnvironmentVariable)
            ?? throw properties.Error($"TERM={Environment.GetEnvironmentVariable("TERM")}: this terminal cannot show a "
                + "screen; use another one, or -display vnc=:0");
        return new Terminal(parts, kind, page);
    }

    /// <summary>What makes a terminal show a screen, and what makes it show again what it did before.</summary>
    static ReadOnlySpan<byte> EnterSequence => "\e[?1049h\e[?7l\e[m\e[2J\e[?25h"u8;
    static ReadOnlySpan<byte> LeaveSequence => "\e[m\e[?7h\e[?25h\e[?1049l"u8;

    public void Dispose()
    {
        if (_isGone) return;
        const byte Cancel = 0x18;                                  // a sequence that was sent in part
        if (_hasEntered)
        {
            _connection.Transport.Write([Cancel, .. LeaveSequence]);
            if (_kind.HasTitle) _connection.Transport.Write("\e[23;0t"u8);
        }
        _connection.Dispose();
        End();
    }

    void End()
    {
        _isGone = true;
        _timer.Dispose();
        _escape.Dispose();
    }

    internal void OnResized()
    {
        (int columns, int rows) = _size();
        _picture.Resize(columns, rows);
        if (_hasEntered) _connection.Write("\e[m\e[2J"u8);
        Schedule(0);
    }

    void Enter()
    {
        if (_isGone) return;
        _connection.Write(EnterSequence);
        if (_kind.HasTitle)
            _connection.Write(Encoding.UTF8.GetBytes($"\e[22;0t\e]0;{Printable(_parts.Title)}: alt-1 screen, alt-2 "
                + "monitor (quit ends)\a"));
        _hasEntered = true;
        _connection.AcceptInput();
        OnResized();
    }

    static string Printable(string text) => string.Concat(text.Where(c => !char.IsControl(c)));

    void Schedule(int milliseconds) => _timer.Change(milliseconds, Timeout.Infinite);

    void Tick()
    {
        if (_isGone) return;
        bool changed = _connection.Pending == 0 && Paint();
        if (!_isGone) Schedule(changed ? FastMilliseconds : SlowMilliseconds);
    }

    bool Paint()
    {
        if (Shown is { } console) console.PaintText(_text);
        else if (_parts.Source is not { } source) Say("This machine has no screen");
        else if (!source.PaintText(_text))
        {
            source.Paint(_graphics);
            Say($"{_graphics.Width} x {_graphics.Height} Graphic mode");
        }
        ReadOnlySpan<byte> changes = _picture.Paint(_text, _page);
        if (changes.Length > 0) _connection.Write(changes);
        return changes.Length > 0;
    }

    void Say(string line)
    {
        _text.Resize(line.Length, 1);
        (_text.ShowsGlyphs, _text.Cursor) = (false, null);
        for (int i = 0; i < line.Length; i++) _text.Row(0)[i] = new TextCell(line[i], 0xAAAAAA, 0);
    }

    // Consoles: the monitor's come first, as QEMU makes them

    ITextConsole[] Consoles => [.. _parts.Backends.Consoles.OrderBy(console => MonitorsLast(console.Label))];

    static int MonitorsLast(string label) => label.StartsWith("compat_monitor", StringComparison.Ordinal) ? 0 : 1;

    ITextConsole? Shown => _shown > 0 && Consoles is var all && _shown <= all.Length ? all[_shown - 1] : null;

    void OnKey(TerminalKey key, ReadOnlySpan<byte> bytes)
    {
        const KeyModifiers any = KeyModifiers.Shift | KeyModifiers.Ctrl;
        if (key is { Modifiers: KeyModifiers.Alt, Key: >= KeyCode.D1 and <= KeyCode.D9 })
        {
            int wanted = key.Key - KeyCode.D1;
            if (wanted <= _parts.Backends.Consoles.Count) _shown = wanted;
        }
        else if (Shown is not { } console) Press(key);
        else if ((key.Modifiers & any) != 0 && key.Key is KeyCode.PgUp or KeyCode.PgDn)
            console.Scroll(key.Key == KeyCode.PgUp ? 12 : -12);
        else if ((key.Modifiers & any) != 0 && key.Key is KeyCode.Up or KeyCode.Down)
            console.Scroll(key.Key == KeyCode.Up ? 1 : -1);
        else console.Type(bytes);
        Schedule(0);
    }

    /// <summary>A key of the guest's, with those held for it.</summary>
    void Press(TerminalKey key)
    {
        if (key.Key == KeyCode.None) return;
        KeyModifiers held = key.Modifiers;
        if (key.IsLetter && (_parts.Input.Locks & KeyboardLocks.Caps) != 0) held ^= KeyModifiers.Shift;
        Hold(down: true);
        Send(key.Key, true);
        Send(key.Key, false);
        Hold(down: false);

        void Hold(bool down)
        {
            if ((held & KeyModifiers.Ctrl) != 0) Send(KeyCode.Ctrl, down);
            if ((held & KeyModifiers.Alt) != 0) Send(KeyCode.Alt, down);
            if ((held & KeyModifiers.Shift) != 0) Send(KeyCode.Shift, down);
        }

        void Send(KeyCode code, bool down) => _parts.Input.Key(code, down, KeyDelay);
    }

    int IConnectionUser.Room => _hasEntered ? 256 : 0;

    void IConnectionUser.Receive(Span<byte> data)
    {
        _keys.Feed(data);
        if (_keys.IsWaiting) _escape.Change(EscapeMilliseconds, Timeout.Infinite);
    }

    void IConnectionUser.Writable() { }
    void IConnectionUser.Closed() => End();

    /// <summary>The terminal of the program, which is put back on every way out: by us, or by the keeper if we
    /// cannot.</summary>
    sealed class Terminal : IDisposable
    {
        readonly CursesDisplay _display;
        readonly TerminalKeeper? _keeper;
        readonly TerminalMode? _mode;
        readonly PosixSignalRegistration _resized;
        readonly DisplayParts _parts;

        public Terminal(DisplayParts parts, TerminalKind kind, CodePage page)
        {
            _parts = parts;
            int input = FdStream.Reopen(Input, Libc.ORdOnly), output = FdStream.Reopen(Output, Libc.OWrOnly);
            _keeper = TerminalKeeper.Start(Encoding.ASCII.GetString(LeaveSequence));
            _mode = TerminalMode.MakeRaw(Input, signals: false);
            _display = new CursesDisplay(parts, new DescriptorTransport(input, output, endsOnlyInput: false),
                () => _mode?.WindowSize ?? (80, 25), kind, page);
            _resized = PosixSignalRegistration.Create((PosixSignal)WindowChanged, _ => parts.Loop.Post(() =>
            {
                if (!_display._isGone) _display.OnResized();
            }));
            parts.Backends.TerminalUser = "-display curses";
        }

        public void Dispose()
        {
            _resized.Dispose();
            _display.Dispose();
            _mode?.Restore();
            _keeper?.Dispose();
            _parts.Backends.TerminalUser = null;
        }
    }
}
