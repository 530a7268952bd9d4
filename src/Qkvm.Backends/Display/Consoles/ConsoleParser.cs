using System.Globalization;
using System.Text;

namespace Qkvm.Backends.Display.Consoles;

/// <summary>Understands what a guest or a monitor writes to a text console: UTF-8, and the control sequences of a VT100
/// with an xterm's colours. Spec: ECMA-48; DEC, "VT100 User Guide", chapter 3.</summary>
/// <remarks>Deviations: no second character set, no tab stops but those at every eighth column. A character that takes
/// two columns becomes U+FFFD. What is not known is passed over.</remarks>
sealed class ConsoleParser(ConsoleScreen screen, Action<byte[]> reply)
{
    enum State { Ground, Escape, Sequence, Text, TextEscape, Ignored }

    const int MaxParameters = 16, MaxValue = 9999;
    const byte Escape = 0x1B, Bell = 7;
    const char Replacement = '\uFFFD';

    readonly int[] _parameters = new int[MaxParameters];
    readonly byte[] _partial = new byte[4];
    int _partialCount, _count;
    bool _isPrivate;
    State _state;

    public void Write(ReadOnlySpan<byte> data)
    {
        foreach (byte one in data) Take(one);
    }

    void Take(byte one)
    {
        switch (_state)
        {
            case State.Ground when one is < 0x20 or 0x7F: Control(one); break;
            case State.Ground: Character(one); break;
            case State.Escape: AfterEscape(one); break;
            case State.Sequence when one is < 0x20: Control(one); break;
            case State.Sequence: InSequence(one); break;
            case State.Text when one == Bell: _state = State.Ground; break;
            case State.Text when one == Escape: _state = State.TextEscape; break;
            case State.TextEscape: _state = one == '\\' ? State.Ground : State.Text; break;
            case State.Ignored: _state = State.Ground; break;
        }
    }

    void Control(byte code)
    {
        _partialCount = 0;
        switch (code)
        {
            case 8: screen.MoveTo(screen.Column - 1, screen.Row); break;
            case 9: screen.Tab(); break;
            case 10 or 11 or 12: screen.LineFeed(); break;
            case 13: screen.Return(); break;
            case Escape: _state = State.Escape; break;
        }
    }

    void Character(byte one)
    {
        if (one < 0x80 && _partialCount == 0) { screen.Put((char)one); return; }
        _partial[_partialCount++] = one;
        switch (Rune.DecodeFromUtf8(_partial.AsSpan(0, _partialCount), out Rune rune, out int used))
        {
            case System.Buffers.OperationStatus.NeedMoreData: return;
            case System.Buffers.OperationStatus.Done: Put(rune); break;
            default: screen.Put(Replacement); break;
        }
        int left = _partialCount - used;
        _partialCount = 0;
        if (left > 0) Take(one);                                   // the one that broke it begins anew
    }

    void Put(Rune rune)
    {
        UnicodeCategory category = Rune.GetUnicodeCategory(rune);
        if (category is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.NonSpacingMark
            or UnicodeCategory.EnclosingMark or UnicodeCategory.LineSeparator
            or UnicodeCategory.ParagraphSeparator) return;
        screen.Put(!rune.IsBmp || IsWide(rune.Value) ? Replacement : (char)rune.Value);
    }

    /// <summary>Unicode Standard Annex 11, in blocks.</summary>
    static bool IsWide(int value) => value is >= 0x1100 and <= 0x115F or >= 0x2E80 and <= 0xA4CF
        or >= 0xAC00 and <= 0xD7A3 or >= 0xF900 and <= 0xFAFF or >= 0xFE30 and <= 0xFE6F or >= 0xFF00 and <= 0xFF60;

    void AfterEscape(byte one)
    {
        _state = State.Ground;
        switch (one)
        {
            case (byte)'[':
                _state = State.Sequence;
                (_count, _isPrivate) = (1, false);
                Array.Clear(_parameters);
                break;
            case (byte)']' or (byte)'P' or (byte)'X' or (byte)'^' or (byte)'_': _state = State.Text; break;
            case (byte)'(' or (byte)')' or (byte)'*' or (byte)'+' or (byte)'#' or (byte)'%' or (byte)' ':
                _state = State.Ignored;
                break;
            case (byte)'7': screen.Save(); break;
            case (byte)'8': screen.Restore(); break;
            case (byte)'D': screen.LineFeed(); break;
            case (byte)'E':
                screen.Return();
                screen.LineFeed();
                break;
            case (byte)'M': screen.ReverseLineFeed(); break;
            case (byte)'c':
                screen.Colors.Select([0]);
                screen.SetRegion(0, screen.Rows);
                screen.EraseLines(0, screen.Rows);
                screen.HidesCursor = false;
                break;
        }
    }

    void InSequence(byte one)
    {
        ref int last = ref _parameters[_count - 1];
        switch (one)
        {
            case >= (byte)'0' and <= (byte)'9': last = Math.Min(last * 10 + one - '0', MaxValue); break;
            case (byte)';' or (byte)':': if (_count < MaxParameters) _count++; break;
            case >= (byte)'<' and <= (byte)'?': _isPrivate = true; break;
            case >= 0x40 and < 0x7F:
                _state = State.Ground;
                if (!_isPrivate) Do((char)one, _parameters[0], Math.Max(_parameters[0], 1));
                else if (_parameters[0] == 25 && one is (byte)'h' or (byte)'l') screen.HidesCursor = one == 'l';
                break;
        }
    }

    /// <param name="value">The first parameter, 0 where it is left out.</param>
    /// <param name="count">The same, at least 1.</param>
    void Do(char final, int value, int count)
    {
        (int column, int row) = (screen.Column, screen.Row);
        switch (final)
        {
            case 'A': screen.MoveTo(column, row - count); break;
            case 'B' or 'e': screen.MoveTo(column, row + count); break;
            case 'C' or 'a': screen.MoveTo(column + count, row); break;
            case 'D': screen.MoveTo(column - count, row); break;
            case 'E': screen.MoveTo(0, row + count); break;
            case 'F': screen.MoveTo(0, row - count); break;
            case 'G' or '`': screen.MoveTo(count - 1, row); break;
            case 'd': screen.MoveTo(column, count - 1); break;
            case 'H' or 'f': screen.MoveTo(Math.Max(_parameters[1], 1) - 1, count - 1); break;
            case 'J':
                screen.EraseLine(row, value == 0 ? column : 0, value == 1 ? column + 1 : screen.Columns);
                if (value != 1) screen.EraseLines(row + 1, screen.Rows);
                if (value != 0) screen.EraseLines(0, row);
                break;
            case 'K':
                screen.EraseLine(row, value == 0 ? column : 0, value == 1 ? column + 1 : screen.Columns);
                break;
            case 'L': screen.InsertLines(count); break;
            case 'M': screen.InsertLines(-count); break;
            case '@': screen.InsertCharacters(count); break;
            case 'P': screen.InsertCharacters(-count); break;
            case 'X': screen.EraseLine(row, column, Math.Min(column + count, screen.Columns)); break;
            case 'S': screen.Scroll(count); break;
            case 'T': screen.Scroll(-count); break;
            case 'm': screen.Colors.Select(_parameters.AsSpan(0, _count)); break;
            case 'n' when value == 5: reply("\e[0n"u8.ToArray()); break;
            case 'n' when value == 6: reply(Encoding.ASCII.GetBytes($"\e[{row + 1};{column + 1}R")); break;
            case 'r': screen.SetRegion(count - 1, _parameters[1] == 0 ? screen.Rows : _parameters[1]); break;
            case 's': screen.Save(); break;
            case 'u': screen.Restore(); break;
        }
    }
}
