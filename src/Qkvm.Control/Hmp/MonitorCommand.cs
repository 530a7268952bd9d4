using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Hmp;

/// <summary>What a command works with.</summary>
public interface IMonitor
{
    IMachine Machine { get; }
    MachineBackends Backends { get; }

    /// <summary>The vCPU that `cpu N` chose.</summary>
    IVCpu Cpu { get; set; }

    /// <summary>Commands and `info` items, for help and completion.</summary>
    MonitorCatalogue Catalogue { get; }

    /// <summary>What was typed on this monitor, the oldest first.</summary>
    IReadOnlyList<string> History { get; }

    void Write(string text);
}

/// <summary>A command of the human monitor, or an item of `info`.</summary>
/// <param name="Name">"quit|q": alternatives are separated by a bar.</param>
/// <param name="Arguments">As help shows them.</param>
/// <param name="Run">Main loop, under the machine lock. Throws <see cref="MonitorException"/> or
/// <see cref="Core.Devices.ConfigurationException"/> for mistakes of the user.</param>
public sealed record MonitorCommand(string Name, string Arguments, string Help, Action<IMonitor, MonitorArguments> Run)
{
    public string[] Names { get; } = Name.Split('|');

    public string HelpLine => $"{Name}{(Arguments.Length > 0 ? " " + Arguments : Name.Contains(' ') ? "" : " ")} -- {Help}";
}

/// <summary>What was typed wrongly: printed on the monitor.</summary>
public sealed class MonitorException(string message) : Exception(message);

/// <summary>The words after a command; quoted ones keep their spaces.</summary>
public sealed class MonitorArguments(string command, IReadOnlyList<string> words)
{
    int _next;

    public int Left => words.Count - _next;

    /// <summary>The next word; one that is missing is an error naming it.</summary>
    public string Word(string what) => _next < words.Count ? words[_next++] : throw new MonitorException($"{command}: {what} expected");

    public string? Optional() => _next < words.Count ? words[_next++] : null;

    /// <summary>Takes a switch such as -a if it comes next.</summary>
    public bool Flag(string flag)
    {
        if (_next >= words.Count || words[_next] != flag) return false;
        _next++;
        return true;
    }

    public ulong Number(string what) => Expression.Evaluate(Word(what), null) ?? throw new MonitorException($"{command}: invalid number for {what}");

    public ulong Address(string what, IVCpu cpu) =>
        Expression.Evaluate(Word(what), cpu) ?? throw new MonitorException($"{command}: invalid expression for {what}");

    /// <summary>"/4xw" in front of an address: count, format, size.</summary>
    public string? Format() => _next < words.Count && words[_next].StartsWith('/') ? words[_next++][1..] : null;

    public void End()
    {
        if (Left > 0) throw new MonitorException($"{command}: extraneous characters at the end of line");
    }

    /// <summary>Splits a line at blanks, quotes kept together.</summary>
    public static List<string> Split(string line)
    {
        var words = new List<string>();
        var word = new System.Text.StringBuilder();
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
