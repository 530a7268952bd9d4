namespace Qkvm.Core.Display;

/// <summary>One place of a screen of characters.</summary>
/// <param name="Character">A place in the screen's font, or a Unicode character: see
/// <see cref="TextScreen.ShowsGlyphs"/>.</param>
/// <param name="Ink">0x00RRGGBB.</param>
/// <param name="Paper">The same.</param>
public readonly record struct TextCell(char Character, uint Ink, uint Paper);

/// <summary>A screen that consists of characters.</summary>
public sealed class TextScreen
{
    TextCell[] _cells = [];

    public int Columns { get; private set; }
    public int Rows { get; private set; }

    /// <summary>Its characters are numbers from 0 to 255 of a font that the guest may have chosen; else they are
    /// Unicode, without control characters.</summary>
    public bool ShowsGlyphs { get; set; }

    /// <summary>Null where none is to be seen.</summary>
    public (int Column, int Row)? Cursor { get; set; }

    public Span<TextCell> Row(int row) => _cells.AsSpan(row * Columns, Columns);

    public void Resize(int columns, int rows)
    {
        if (columns == Columns && rows == Rows) return;
        if (_cells.Length < columns * rows) _cells = new TextCell[columns * rows];
        (Columns, Rows) = (columns, rows);
    }
}

/// <summary>A console of the program's own that shows characters and takes them: -serial vc. Under the machine
/// lock.</summary>
public interface ITextConsole
{
    /// <summary>As `info chardev` calls it.</summary>
    string Label { get; }

    void PaintText(TextScreen target);

    /// <summary>Somebody types, in UTF-8 with the escape sequences of an xterm.</summary>
    void Type(ReadOnlySpan<byte> input);

    /// <summary>Looks at lines that went by: positive numbers go back.</summary>
    void Scroll(int lines);
}
