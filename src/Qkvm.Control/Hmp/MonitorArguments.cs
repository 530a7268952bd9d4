using System.Text;

namespace Qkvm.Control.Hmp;

/// <summary>What was typed after a command, taken piece by piece. Quoted words keep their spaces. What does not fit is
/// told as QEMU's monitor tells it.</summary>
/// <param name="command">Its name or names; of `info` the item alone.</param>
/// <param name="typed">As it was typed, for the hint at its help.</param>
public sealed class MonitorArguments(IMonitor monitor, string command, string typed, string text)
{
    int _at;

    public IMonitor Monitor { get; } = monitor;
    public bool HasMore { get { SkipBlanks(); return _at < text.Length; } }

    /// <summary>The next word; one that is missing is an error.</summary>
    /// <param name="kind">What it is: "string", "filename", "block device name".</param>
    public string Word(string kind = "string") => Optional() ?? throw Error($"{command}: {kind} expected");

    public string? Optional()
    {
        if (!HasMore) return null;
        (string word, _at) = Read(text, _at, Error);
        return word;
    }

    /// <summary>"on" or "off".</summary>
    public bool Switch() => Optional() switch
    {
        "on" => true,
        "off" => false,
        _ => throw Error("Expected 'on' or 'off'"),
    };

    /// <summary>Takes a switch such as -a if it comes next.</summary>
    /// <param name="known">The letters of all switches that may stand here.</param>
    public bool Flag(char letter, string? known = null)
    {
        if (!HasMore || text[_at] != '-') return false;
        char given = _at + 1 < text.Length ? text[_at + 1] : ' ';
        if (given != letter)
            return known?.Contains(given) == true ? false : throw Error($"{command}: unsupported option -{given}");
        _at += 2;
        return true;
    }

    /// <summary>Any of these switches, in any order, each once or more.</summary>
    public string Flags(string known)
    {
        string given = "";
        while (HasMore && text[_at] == '-')
            given += known.FirstOrDefault(letter => Flag(letter, known));
        return given;
    }

    /// <summary>An expression, of which $pc and other registers may be a part.</summary>
    public ulong Number()
    {
        try { return Expression.Evaluate(text, ref _at, Monitor.Context); }
        catch (FormatException e) { throw Error(e.Message); }
    }

    /// <summary>A size; a number alone counts in MiB.</summary>
    public long Speed() => Sizes.TryParse(Word("size"), 1 << 20, out ulong bytes) && bytes <= long.MaxValue
        ? (long)bytes : throw Error("invalid size");

    /// <summary>One of 32 bits.</summary>
    public uint Integer()
    {
        ulong number = Number();
        return number <= uint.MaxValue || (long)number is < 0 and >= int.MinValue ? (uint)number
            : throw Error($"'{command}' has failed: integer is for 32-bit values");
    }

    /// <summary>"/4xw" in front of an address: count, format, size.</summary>
    public string? Format()
    {
        if (!HasMore || text[_at] != '/') return null;
        int start = ++_at;
        while (_at < text.Length && !char.IsWhiteSpace(text[_at])) _at++;
        return text[start.._at];
    }

    /// <summary>All that is left.</summary>
    public string Rest()
    {
        SkipBlanks();
        string rest = text[_at..].TrimEnd();
        _at = text.Length;
        return rest;
    }

    public void End()
    {
        if (HasMore) throw Error($"{command}: extraneous characters at the end of line");
    }

    /// <summary>What was typed wrongly, with the hint where to read of it.</summary>
    public MonitorException Error(string message) => new($"{message}\nTry \"help {typed}\" for more information");

    void SkipBlanks()
    {
        while (_at < text.Length && char.IsWhiteSpace(text[_at])) _at++;
    }

    /// <summary>The words of a line; the last may be unfinished.</summary>
    public static List<string> Split(string line)
    {
        var words = new List<string>();
        for (int at = 0;;)
        {
            while (at < line.Length && char.IsWhiteSpace(line[at])) at++;
            if (at == line.Length) return words;
            (string word, at) = Read(line, at, null);
            words.Add(word);
        }
    }

    /// <param name="error">What makes an error of a message; null: anything goes.</param>
    static (string Word, int End) Read(string text, int at, Func<string, MonitorException>? error)
    {
        var word = new StringBuilder();
        if (text[at] != '"')
        {
            while (at < text.Length && !char.IsWhiteSpace(text[at])) word.Append(text[at++]);
            return (word.ToString(), at);
        }
        for (at++; at < text.Length && text[at] != '"'; at++)
        {
            char c = text[at];
            if (c == '\\' && at + 1 < text.Length)
                c = text[++at] switch
                {
                    'n' => '\n',
                    'r' => '\r',
                    '\\' or '\'' or '"' => text[at],
                    _ => error == null ? text[at] : throw error($"unsupported escape code: '\\{text[at]}'"),
                };
            word.Append(c);
        }
        if (at < text.Length) at++;
        else if (error != null) throw error("unterminated string");
        return (word.ToString(), at);
    }
}
