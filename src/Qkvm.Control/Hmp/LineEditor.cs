using System.Text;

namespace Qkvm.Control.Hmp;

/// <summary>A line typed on a terminal: echo, cursor keys, deleting, history, completion. Knows no I/O: takes bytes,
/// gives text to print and finished lines.</summary>
/// <param name="print">Prints to the terminal.</param>
/// <param name="complete">The line up to the cursor to the words that may follow its last.</param>
public sealed class LineEditor(string prompt, Action<string> print, Func<string, IReadOnlyList<string>> complete)
{
    const int LineLimit = 4096, HistoryLimit = 64;

    enum Escape { None, Started, Sequence }

    readonly StringBuilder _line = new();
    readonly List<string> _history = [];
    readonly StringBuilder _sequence = new();
    int _cursor;
    int _historyAt;
    Escape _escape;
    bool _lastWasReturn;

    public IReadOnlyList<string> History => _history;

    public void ShowPrompt()
    {
        _line.Clear();
        _cursor = 0;
        _historyAt = _history.Count;
        print(prompt);
    }

    /// <summary>Takes one byte; returns the line if it is finished.</summary>
    public string? Take(byte b)
    {
        bool afterReturn = _lastWasReturn;
        _lastWasReturn = b == '\r';
        if (_escape != Escape.None) { TakeEscape((char)b); return null; }
        switch (b)
        {
            case (byte)'\n' when afterReturn: return null;
            case (byte)'\r' or (byte)'\n': return Finish();
            case 1: MoveTo(0); break;                              // ctrl-a
            case 5: MoveTo(_line.Length); break;                   // ctrl-e
            case 2: MoveTo(_cursor - 1); break;                    // ctrl-b
            case 6: MoveTo(_cursor + 1); break;                    // ctrl-f
            case 4: Delete(_cursor); break;                        // ctrl-d
            case 8 or 127: if (_cursor > 0) Delete(_cursor - 1); break;
            case 9: Complete(); break;
            case 11: Replace(_line.ToString(0, _cursor)); break;   // ctrl-k
            case 21: Replace(""); break;                           // ctrl-u
            case 3:                                                // ctrl-c
                print("\r\n");
                ShowPrompt();
                break;
            case 12: Redraw(); break;                              // ctrl-l
            case 14: Recall(+1); break;                            // ctrl-n
            case 16: Recall(-1); break;                            // ctrl-p
            case 23: DeleteWord(); break;                          // ctrl-w
            case 27: _escape = Escape.Started; break;
            case >= 32: Insert(((char)b).ToString()); break;
        }
        return null;
    }

    string Finish()
    {
        string line = _line.ToString();
        print("\r\n");
        if (line.Length > 0 && (_history.Count == 0 || _history[^1] != line))
        {
            if (_history.Count == HistoryLimit) _history.RemoveAt(0);
            _history.Add(line);
        }
        return line;
    }

    void TakeEscape(char c)
    {
        if (_escape == Escape.Started)
        {
            _escape = c is '[' or 'O' ? Escape.Sequence : Escape.None;
            _sequence.Clear();
            return;
        }
        if (char.IsAsciiDigit(c) || c == ';') { if (_sequence.Length < 8) _sequence.Append(c); return; }
        _escape = Escape.None;
        switch (c)
        {
            case 'A': Recall(-1); break;
            case 'B': Recall(+1); break;
            case 'C': MoveTo(_cursor + 1); break;
            case 'D': MoveTo(_cursor - 1); break;
            case 'H': MoveTo(0); break;
            case 'F': MoveTo(_line.Length); break;
            case '~' when _sequence.ToString() == "3": Delete(_cursor); break;
        }
    }

    void Insert(string text)
    {
        if (_line.Length + text.Length > LineLimit) return;
        _line.Insert(_cursor, text);
        _cursor += text.Length;
        string tail = _line.ToString(_cursor, _line.Length - _cursor);
        print(text + tail + Back(tail.Length));
    }

    void Delete(int at)
    {
        if (at >= _line.Length) return;
        string back = Back(_cursor - at);
        _line.Remove(at, 1);
        _cursor = at;
        string tail = _line.ToString(at, _line.Length - at);
        print(back + tail + " " + Back(tail.Length + 1));
    }

    void DeleteWord()
    {
        while (_cursor > 0 && _line[_cursor - 1] == ' ') Delete(_cursor - 1);
        while (_cursor > 0 && _line[_cursor - 1] != ' ') Delete(_cursor - 1);
    }

    void MoveTo(int place)
    {
        place = Math.Clamp(place, 0, _line.Length);
        print(place < _cursor ? Back(_cursor - place) : _line.ToString(_cursor, place - _cursor));
        _cursor = place;
    }

    void Recall(int direction)
    {
        int place = _historyAt + direction;
        if (place < 0 || place > _history.Count) return;
        _historyAt = place;
        Replace(place < _history.Count ? _history[place] : "");
    }

    void Replace(string line)
    {
        int old = _line.Length;
        print(Back(_cursor) + line + new string(' ', Math.Max(0, old - line.Length))
            + Back(Math.Max(0, old - line.Length)));
        _line.Clear().Append(line);
        _cursor = line.Length;
    }

    void Complete()
    {
        string head = _line.ToString(0, _cursor);
        string word = head[(head.LastIndexOf(' ') + 1)..];
        IReadOnlyList<string> words = complete(head);
        if (words.Count == 0) return;
        string common = words.Aggregate((a, b) => a[..a.Zip(b).TakeWhile(p => p.First == p.Second).Count()]);
        if (words.Count == 1) Insert(common[word.Length..] + " ");
        else if (common.Length > word.Length) Insert(common[word.Length..]);
        else
        {
            print("\r\n" + string.Join("  ", words) + "\r\n");
            Redraw();
        }
    }

    void Redraw() => print("\r" + prompt + _line + Back(_line.Length - _cursor));

    static string Back(int count) => new('\b', Math.Max(0, count));
}
