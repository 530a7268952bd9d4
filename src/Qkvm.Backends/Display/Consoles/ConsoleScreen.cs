using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Consoles;

/// <summary>The lines of a text console, those that went by with them, and where the next character goes: what an
/// <see cref="ConsoleParser"/> works on.</summary>
/// <remarks>All positions are brought into the screen: nothing that is written can fail.</remarks>
sealed class ConsoleScreen
{
    public const int History = 512;                                // lines that went by; QEMU keeps as many

    const int TabWidth = 8;

    readonly TextCell[]?[] _lines;                                 // a ring, made as they are used
    int _top;                                                      // the screen's first line in the ring
    int _kept;                                                     // lines before it that were written
    int _back;                                                     // how far somebody looks back
    bool _wrapPending;                                             // the last column was written
    int _regionTop, _regionBottom;                                 // lines that scroll, the second exclusive
    (int Column, int Row) _saved;

    public ConsoleScreen(int columns, int rows)
    {
        (Columns, Rows, _regionBottom) = (columns, rows, rows);
        _lines = new TextCell[rows + History][];
    }

    public int Columns { get; }
    public int Rows { get; }
    public int Column { get; private set; }
    public int Row { get; private set; }
    public bool HidesCursor { get; set; }

    /// <summary>Of what is written next.</summary>
    public ConsoleColors Colors { get; } = new();

    /// <summary>Counts what may have changed the picture.</summary>
    public int Version { get; private set; }

    public void Put(char character)
    {
        if (_wrapPending) NewLine();
        Line(Row)[Column] = Colors.Cell(character);
        if (Column + 1 < Columns) Column++;
        else _wrapPending = true;
        Version++;
    }

    public void MoveTo(int column, int row)
    {
        (Column, Row) = (Math.Clamp(column, 0, Columns - 1), Math.Clamp(row, 0, Rows - 1));
        _wrapPending = false;
        Version++;
    }

    public void Return() => MoveTo(0, Row);
    public void Tab() => MoveTo((Column / TabWidth + 1) * TabWidth, Row);
    public void Save() => _saved = (Column, Row);
    public void Restore() => MoveTo(_saved.Column, _saved.Row);

    /// <summary>One line down, which scrolls at the region's end.</summary>
    public void LineFeed()
    {
        if (Row + 1 == _regionBottom) Scroll(1);
        else MoveTo(Column, Row + 1);
        _wrapPending = false;
    }

    /// <summary>One line up, which scrolls back at the region's start.</summary>
    public void ReverseLineFeed()
    {
        if (Row == _regionTop) Scroll(-1);
        else MoveTo(Column, Row - 1);
    }

    void NewLine()
    {
        Column = 0;
        LineFeed();
    }

    /// <param name="top">The first line that scrolls.</param>
    /// <param name="bottom">The one behind the last.</param>
    public void SetRegion(int top, int bottom)
    {
        (top, bottom) = (Math.Clamp(top, 0, Rows - 1), Math.Clamp(bottom, 1, Rows));
        (_regionTop, _regionBottom) = top < bottom ? (top, bottom) : (0, Rows);
        MoveTo(0, 0);
    }

    /// <summary>The region's lines go up, or down for a negative number. What leaves the whole screen upwards is
    /// kept.</summary>
    public void Scroll(int lines)
    {
        int height = _regionBottom - _regionTop, count = (int)Math.Min(Math.Abs((long)lines), height);
        if (lines > 0 && height == Rows)
            for (int i = 0; i < count; i++)
            {
                _top = (_top + 1) % _lines.Length;
                _kept = Math.Min(_kept + 1, History);
                if (_back > 0) _back = Math.Min(_back + 1, _kept); // who looks back goes on seeing the same
                EraseLine(Rows - 1, 0, Columns);
            }
        else MoveLines(_regionTop, lines > 0 ? count : -count);
        Version++;
    }

    /// <summary>Lines from the cursor's on go down, or up for a negative number, within the region.</summary>
    public void InsertLines(int lines)
    {
        if (Row >= _regionTop && Row < _regionBottom) MoveLines(Row, -Math.Clamp(lines, -Rows, Rows));
        Version++;
    }

    /// <summary>Characters from the cursor's on go right, or left for a negative number.</summary>
    public void InsertCharacters(int count)
    {
        Span<TextCell> rest = Line(Row).AsSpan(Column);
        int by = Math.Clamp(count, -rest.Length, rest.Length);
        if (by >= 0) rest[..^by].CopyTo(rest[by..]);
        else rest[-by..].CopyTo(rest);
        (by >= 0 ? rest[..by] : rest[^-by..]).Fill(Colors.Blank);
        Version++;
    }

    /// <summary>Columns of a line, the second exclusive.</summary>
    public void EraseLine(int row, int from, int to)
    {
        if (row < 0 || row >= Rows) return;
        Line(row).AsSpan(from, Math.Min(to, Columns) - from).Fill(Colors.Blank);
        Version++;
    }

    /// <summary>Lines of the screen, the second exclusive.</summary>
    public void EraseLines(int from, int to)
    {
        for (int row = from; row < to; row++) EraseLine(row, 0, Columns);
    }

    /// <summary>Looks at lines that went by: positive numbers go back.</summary>
    public void LookBack(int lines)
    {
        _back = Math.Clamp(_back + lines, 0, _kept);
        Version++;
    }

    /// <summary>Looks at the screen itself.</summary>
    public void LookAhead()
    {
        if (_back != 0) LookBack(-_back);
    }

    public void Paint(TextScreen target)
    {
        target.Resize(Columns, Rows);
        target.ShowsGlyphs = false;
        for (int row = 0; row < Rows; row++) Line(row - _back).CopyTo(target.Row(row));
        target.Cursor = HidesCursor || Row + _back >= Rows ? null : (Column, Row + _back);
    }

    /// <summary>Lines from one to the region's end go up by some, or down.</summary>
    void MoveLines(int from, int up)
    {
        int height = _regionBottom - from, count = Math.Min(Math.Abs(up), height);
        for (int i = 0; i < height - count; i++)
        {
            int row = up > 0 ? from + i : _regionBottom - 1 - i;
            Line(row + (up > 0 ? count : -count)).CopyTo(Line(row), 0);
        }
        int blank = up > 0 ? _regionBottom - count : from;
        EraseLines(blank, blank + count);
    }

    /// <param name="row">Of the screen; negative ones went by.</param>
    TextCell[] Line(int row)
    {
        ref TextCell[]? line = ref _lines[(_top + row + _lines.Length) % _lines.Length];
        if (line != null) return line;
        line = new TextCell[Columns];
        line.AsSpan().Fill(ConsoleColors.Empty);
        return line;
    }
}
