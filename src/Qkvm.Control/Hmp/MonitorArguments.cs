using System.Text;

namespace Qkvm.Control.Hmp;

/// <summary>The words after a command; quoted ones keep their spaces.</summary>
public sealed class MonitorArguments(IMonitor monitor, string command, IReadOnlyList<string> words)
{
    int _next;

    public IMonitor Monitor { get; } = monitor;
    public int Left => words.Count - _next;

    /// <summary>The next word; one that is missing is an error naming it.</summary>
    public string Word(string what) => _next < words.Count ? words[_next++]
        : throw new MonitorException($"{command}: {what} expected");

    public string? Optional() => _next < words.Count ? words[_next++] : null;

    /// <summary>Takes a switch such as -a if it comes next.</summary>
    public bool Flag(string flag)
    {
        if (_next >= words.Count || words[_next] != flag) return false;
        _next++;
        return true;
    }

    public ulong Number(string what) => Expression.Evaluate(Word(what), null)
        ?? throw new MonitorException($"{command}: invalid number for {what}");

    /// <summary>A number or an expression with $pc.</summary>
    public ulong Address(string what) =>
        Expression.Evaluate(Word(what), Monitor.Context.Cpu)
            ?? throw new MonitorException($"{command}: invalid expression for {what}");

    /// <summary>"/4xw" in front of an address: count, format, size.</summary>
    public string? Format() => _next < words.Count && words[_next].StartsWith('/') ? words[_next++][1..] : null;

    public void End()
    {
        if (Left > 0)
            throw new MonitorException($"{command}: extraneous characters at the end of line\nTry \"help " +
                $"{command}\" for more information");
    }

    /// <summary>Splits a line at blanks, quotes kept together.</summary>
    public static List<string> Split(string line)
    {
        var words = new List<string>();
        var word = new StringBuilder();
        bool quoted = false, any = false;
        for (int i = 0; i < line.Length; i++)
        {
            char c = line[i];
            if (c == '"') { quoted = !quoted; any = true; continue; }
            if (c == '\\' && quoted && i + 1 < line.Length) { word.Append(line[++i]); continue; }
            if (!quoted && c is ' ' or '\t')
            {
                if (any || word.Length > 0) words.Add(word.ToString());
                word.Clear();
                any = false;
                continue;
            }
            word.Append(c);
        }
        if (any || word.Length > 0) words.Add(word.ToString());
        return words;
    }
}
