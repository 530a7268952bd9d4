using Qkvm.Core.Devices;

namespace Qkvm.Control.Hmp;

/// <summary>All commands: the lists that help, completion and execution read.</summary>
public sealed class MonitorCatalogue
{
    /// <summary>Makes the catalogue; another area of the program adds its commands by another list.</summary>
    public MonitorCatalogue(IEnumerable<MonitorCommand> commands, IEnumerable<MonitorCommand> info)
    {
        Commands = [.. commands.Append(new MonitorCommand("help|?", "[cmd]", "show the help", Help))
            .Append(new MonitorCommand("info", "[subcommand]", "show various information about the system state", RunInfo))
            .OrderBy(c => c.Name, StringComparer.Ordinal)];
        Info = [.. info.OrderBy(c => c.Name, StringComparer.Ordinal)];
    }

    public static MonitorCatalogue Standard => new([.. RunCommands.All, .. MemoryCommands.All, .. InputCommands.All, .. DisplayCommands.All], InfoCommands.All);

    public MonitorCommand[] Commands { get; }
    public MonitorCommand[] Info { get; }

    /// <summary>Runs one line; mistakes are printed.</summary>
    public void Execute(IMonitor monitor, string line)
    {
        List<string> words = MonitorArguments.Split(line);
        if (words.Count == 0) return;
        // "x/4xw" and "print/d": the format may touch the command.
        int slash = words[0].IndexOf('/');
        if (slash > 0) (words[0], words) = (words[0][..slash], [words[0][..slash], words[0][slash..], .. words.Skip(1)]);
        try
        {
            if (Find(Commands, words[0]) is not { } command) throw new MonitorException($"unknown command: '{words[0]}'");
            Run(monitor, command, words[0], words.Skip(1));
        }
        catch (Exception e) when (e is MonitorException or ConfigurationException or IOException or UnauthorizedAccessException)
        {
            monitor.Write($"{(e is MonitorException ? "" : "Error: ")}{e.Message}\n");
        }
    }

    /// <summary>The names that may continue a line.</summary>
    public IReadOnlyList<string> Complete(string head)
    {
        string[] words = head.TrimStart().Split(' ', StringSplitOptions.RemoveEmptyEntries);
        bool fresh = head.Length == 0 || head[^1] == ' ';
        int index = words.Length - (fresh ? 0 : 1);
        string start = fresh ? "" : words[^1];
        MonitorCommand[]? from = index == 0 ? Commands
            : index == 1 && words[0] is "info" ? Info
            : index == 1 && words[0] is "help" or "?" ? Commands : null;
        return from == null ? [] : [.. from.SelectMany(c => c.Names).Where(n => n.StartsWith(start, StringComparison.Ordinal))];
    }

    static MonitorCommand? Find(MonitorCommand[] commands, string name) => Array.Find(commands, c => Array.IndexOf(c.Names, name) >= 0);

    static void Run(IMonitor monitor, MonitorCommand command, string name, IEnumerable<string> words)
    {
        var arguments = new MonitorArguments(name, [.. words]);
        command.Run(monitor, arguments);
        arguments.End();
    }

    void Help(IMonitor monitor, MonitorArguments arguments)
    {
        string? name = arguments.Optional();
        if (name == "info") { foreach (MonitorCommand item in Info) monitor.Write($"info {item.HelpLine}\n"); return; }
        foreach (MonitorCommand command in Commands)
            if (name == null || Array.IndexOf(command.Names, name) >= 0) monitor.Write(command.HelpLine + "\n");
    }

    void RunInfo(IMonitor monitor, MonitorArguments arguments)
    {
        if (arguments.Optional() is not { } name)
        {
            foreach (MonitorCommand item in Info) monitor.Write($"info {item.HelpLine}\n");
            return;
        }
        MonitorCommand command = Find(Info, name) ?? throw new MonitorException($"unknown command: 'info {name}'");
        var rest = new List<string>();
        while (arguments.Optional() is { } word) rest.Add(word);
        Run(monitor, command, $"info {name}", rest);
    }
}
