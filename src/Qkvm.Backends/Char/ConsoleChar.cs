using Qkvm.Backends.Display.Consoles;
using Qkvm.Core.Char;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Char;

/// <summary>vc: a text console of the program's own, which displays can show beside the guest's screen.</summary>
/// <remarks>Under the machine lock.</remarks>
public sealed class ConsoleChar : ICharBackend, ITextConsole, IDisposable
{
    const int Columns = 80, Rows = 24, GlyphWidth = 8, GlyphHeight = 16, Most = 1000, MaxTyped = 4096;

    public static readonly CharModel Model = new("vc",
        [
            Property.Number("width", 0, max: 65535, help: "in pixels, 8 a character"),
            Property.Number("height", 0, max: 65535, help: "in pixels, 16 a line"),
            Property.Number("cols", 0, max: Most, help: "in characters; 80 unless given"),
            Property.Number("rows", 0, max: Most, help: "in lines; 24 unless given"),
        ], static (properties, host) =>
        {
            var made = new ConsoleChar(properties.Required("id"),
                Count(properties.Number("cols"), properties.Number("width") / GlyphWidth, Columns),
                Count(properties.Number("rows"), properties.Number("height") / GlyphHeight, Rows),
                host.Backends.Consoles);
            host.Backends.Consoles.Add(made);
            return made;
        })
    {
        Description = "a text console that -display curses shows beside the screen",
    };

    static int Count(ulong given, ulong fromPixels, int fallback) =>
        (int)Math.Min(given > 0 ? given : fromPixels > 0 ? fromPixels : (ulong)fallback, Most);

    readonly ConsoleScreen _screen;
    readonly ConsoleParser _parser;
    readonly Queue<byte> _typed = new();
    readonly List<ITextConsole> _all;
    ICharFrontend? _frontend;

    /// <param name="all">Those that displays find.</param>
    public ConsoleChar(string id, int columns, int rows, List<ITextConsole> all)
    {
        (Id, _all) = (id, all);
        _screen = new ConsoleScreen(columns, rows);
        _parser = new ConsoleParser(_screen, Enqueue);
    }

    public string Id { get; }
    public string Description => Model.Name;
    public bool IsOpen => true;
    string ITextConsole.Label => Id;

    public int Write(ReadOnlySpan<byte> data)
    {
        _parser.Write(data);
        return data.Length;
    }

    public void Connect(ICharFrontend? frontend)
    {
        _frontend = frontend;
        frontend?.Event(CharEvent.Opened);
        AcceptInput();
    }

    public void AcceptInput()
    {
        Span<byte> some = stackalloc byte[64];
        while (_frontend is { } frontend && _typed.Count > 0 && frontend.Room is > 0 and var room)
        {
            int count = Math.Min(Math.Min(room, some.Length), _typed.Count);
            for (int i = 0; i < count; i++) some[i] = _typed.Dequeue();
            frontend.Receive(some[..count]);
        }
    }

    public void PaintText(TextScreen target) => _screen.Paint(target);
    public void Scroll(int lines) => _screen.LookBack(lines);

    public void Type(ReadOnlySpan<byte> input)
    {
        _screen.LookAhead();
        Enqueue(input);
    }

    public void Dispose() => _all.Remove(this);

    /// <summary>What nobody takes is lost in the end.</summary>
    void Enqueue(ReadOnlySpan<byte> input)
    {
        foreach (byte one in input)
            if (_typed.Count < MaxTyped) _typed.Enqueue(one);
        AcceptInput();
    }

    void Enqueue(byte[] input) => Enqueue(input.AsSpan());
}
