using System.Buffers;
using System.Buffers.Text;
using System.Text;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Curses;

/// <summary>What a terminal shows, and the control sequences that make it show something else: those for what changed
/// alone. Spec: ECMA-48; xterm, "Control Sequences".</summary>
/// <remarks>Nothing that a guest writes reaches the terminal but as a printable character.</remarks>
sealed class TerminalPicture(TerminalKind kind)
{
    const int MostColumns = 512, MostRows = 256;

    readonly ArrayBufferWriter<byte> _output = new();
    TextCell[] _shown = [];
    int _columns, _rows, _left, _top;
    (int Column, int Row)? _pen;                                   // where the terminal would write; null: unknown
    (uint Ink, uint Paper)? _colors;
    bool _cursorShown;

    static TextCell Outside => new(' ', 0xAAAAAA, 0);

    /// <summary>The terminal has another size; all is to be written again.</summary>
    public void Resize(int columns, int rows)
    {
        (_columns, _rows) = (Math.Clamp(columns, 1, MostColumns), Math.Clamp(rows, 1, MostRows));
        _shown = new TextCell[_columns * _rows];                   // of no character that there is
        (_pen, _colors, _cursorShown) = (null, null, true);
    }

    /// <summary>The bytes that bring the terminal to a screen; none where it shows that.</summary>
    /// <param name="page">For a screen of glyphs.</param>
    /// <returns>Good until the next call.</returns>
    public ReadOnlySpan<byte> Paint(TextScreen screen, CodePage page)
    {
        _output.ResetWrittenCount();
        int left = Offset(_columns, screen.Columns, screen.Cursor?.Column, ref _left),
            top = Offset(_rows, screen.Rows, screen.Cursor?.Row, ref _top);
        (int Column, int Row)? cursor = screen.Cursor is var (column, row) ? (column + left, row + top) : null;
        bool hadCursor = _cursorShown;
        for (int y = 0; y < _rows; y++)
        {
            bool isInside = y >= top && y - top < screen.Rows;
            for (int x = 0; x < _columns; x++)
            {
                TextCell cell = isInside && x >= left && x - left < screen.Columns ? screen.Row(y - top)[x - left]
                    : Outside;
                if (screen.ShowsGlyphs && cell != Outside) cell = cell with { Character = page[cell.Character] };
                ref TextCell shown = ref _shown[y * _columns + x];
                if (cell == shown) continue;
                if (_cursorShown) ShowCursor(false);
                Write(x, y, cell);
                shown = cell;
            }
        }
        if (cursor is var (atX, atY) && atX >= 0 && atX < _columns && atY >= 0 && atY < _rows)
        {
            if (_pen != cursor) MoveTo(atX, atY);
            if (!_cursorShown) ShowCursor(true);
        }
        else if (_cursorShown) ShowCursor(false);
        return _output.WrittenSpan;
    }

    /// <summary>Where a screen begins: in the middle of a larger terminal; of what is larger than the terminal, the
    /// part with the cursor is seen.</summary>
    /// <param name="first">The first place that is seen of a screen that is too large.</param>
    static int Offset(int terminal, int screen, int? cursor, ref int first)
    {
        if (screen <= terminal) return (terminal - screen) / 2;
        if (cursor is { } at) first = Math.Clamp(first, at - terminal + 1, at);
        first = Math.Clamp(first, 0, screen - terminal);
        return -first;
    }

    void Write(int x, int y, TextCell cell)
    {
        if (_pen != (x, y)) MoveTo(x, y);
        SetColors(cell.Ink, cell.Paper);
        char character = kind.IsUnicode ? cell.Character : Plain(cell.Character);
        _output.Advance(Encoding.UTF8.GetBytes([character], _output.GetSpan(4)));
        _pen = x + 1 < _columns ? (x + 1, y) : null;               // at the edge terminals differ
    }

    void MoveTo(int x, int y)
    {
        Text("\e["u8);
        Number(y + 1);
        Text(";"u8);
        Number(x + 1);
        Text("H"u8);
        _pen = (x, y);
    }

    void ShowCursor(bool isShown)
    {
        Text(isShown ? "\e[?25h"u8 : "\e[?25l"u8);
        _cursorShown = isShown;
    }

    void SetColors(uint ink, uint paper)
    {
        if (_colors == (ink, paper)) return;
        _colors = (ink, paper);
        switch (kind.Colors)
        {
            case 256:
                Text("\e[38;5;"u8);
                Number(TerminalColors.Nearest256(ink));
                Text(";48;5;"u8);
                Number(TerminalColors.Nearest256(paper));
                break;
            case 16:
                int front = TerminalColors.Nearest16(ink);
                Text(front >= 8 ? "\e[0;1;"u8 : "\e[0;"u8);
                Number(30 + (front & 7));
                Text(";"u8);
                Number(40 + (TerminalColors.Nearest16(paper) & 7));
                break;
            default:
                Text(TerminalColors.Brightness(paper) > TerminalColors.Brightness(ink) ? "\e[0;7"u8 : "\e[0"u8);
                break;
        }
        Text("m"u8);
    }

    /// <summary>For terminals that know ASCII alone.</summary>
    static char Plain(char character) => character switch
    {
        < (char)0x7F => character,
        '─' or '═' => '-',
        '│' or '║' => '|',
        >= '┌' and <= '╬' => '+',
        '█' or '▓' or '▒' or '░' or '▄' or '▀' or '▌' or '▐' or '■' => '#',
        '►' or '→' => '>',
        '◄' or '←' => '<',
        '▲' or '↑' => '^',
        '▼' or '↓' => 'v',
        '·' or '•' or '∙' => '.',
        _ => '?',
    };

    void Text(ReadOnlySpan<byte> text) => _output.Write(text);

    void Number(int value)
    {
        Utf8Formatter.TryFormat(value, _output.GetSpan(11), out int written);
        _output.Advance(written);
    }
}
