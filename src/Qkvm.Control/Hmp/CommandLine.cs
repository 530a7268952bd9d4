using System.Runtime.CompilerServices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Hmp;

/// <summary>Finds what a typed line asks for, and runs it.</summary>
public static class CommandLine
{
    const string Info = "info", Help = "help";

    /// <summary>Runs one line; mistakes are printed. Not complete while the command answers later.</summary>
    public static async ValueTask ExecuteAsync(IMonitor monitor, string line)
    {
        if (line.TrimStart().StartsWith('#')) return;              // a remark in a script
        try
        {
            CommandCatalogue catalogue = monitor.Context.Catalogue;
            (string name, string rest) = Cut(line);
            if (name.Length == 0) return;
            if (monitor.Context.Log is { Events.HmpCommand: { Enabled: true } handled } log)
                log.Write($"{handled.Name} mon 0x{RuntimeHelpers.GetHashCode(monitor):x} cmdline: {line}\n");
            bool isInfo = name == Info;
            if (isInfo) (name, rest) = Cut(rest);
            if (isInfo && name.Length == 0) (isInfo, name, rest) = (false, Help, Info);
            string typed = isInfo ? $"{Info} {name}" : name;
            Command command = Find(isInfo ? catalogue.Info : catalogue.Human, name)
                ?? throw new MonitorException($"unknown command: '{typed}'");
            string called = isInfo ? name : command.Form!.Name;
            await command.RunAsync(monitor, new MonitorArguments(monitor, called, typed, rest)).ConfigureAwait(false);
        }
        catch (MonitorException e) { monitor.Write($"{e.Message}\n"); }
        catch (Exception e) when (Command.ErrorOf(e) is { } error) { monitor.Write($"Error: {error.Message}\n"); }
    }

    public static Command? Find(IReadOnlyList<Command> commands, string name) =>
        commands.FirstOrDefault(c => c.Form!.Names.Contains(name));

    /// <summary>The words that may continue a line.</summary>
    public static IReadOnlyList<string> Complete(CommandContext context, string head)
    {
        List<string> words = MonitorArguments.Split(head);
        if (head.Length == 0 || char.IsWhiteSpace(head[^1])) words.Add("");
        string start = words[^1];
        CommandCatalogue catalogue = context.Catalogue;
        if (words.Count > 2 && words[0] is Help or "?") words.RemoveAt(0);   // as what is to be explained
        return [.. CandidatesOf(context, words, start)
            .Where(n => n.StartsWith(start, StringComparison.Ordinal)).Distinct().Order(StringComparer.Ordinal)];
    }

    static IEnumerable<string> CandidatesOf(CommandContext context, List<string> words, string start)
    {
        CommandCatalogue catalogue = context.Catalogue;
        bool isInfo = words[0] == Info;
        if (words.Count == 1 || words.Count == 2 && words[0] is Help or "?")
            return NamesOf(catalogue.Human).Append(Info);
        if (words.Count == 2 && isInfo) return NamesOf(catalogue.Info);
        Command? command = isInfo ? Find(catalogue.Info, words[1]) : Find(catalogue.Human, words[0]);
        int place = words.Skip(isInfo ? 2 : 1).SkipLast(1).Count(word => !word.StartsWith('-'));
        return command == null || place >= command.Completes.Length ? [] : command.Completes[place](context, start);
    }

    /// <summary>"x/4xw" and "print/d": the format may touch the command.</summary>
    static (string Name, string Behind) Cut(string line)
    {
        line = line.TrimStart();
        int end = 0;
        while (end < line.Length && !char.IsWhiteSpace(line[end]) && (line[end] != '/' || end == 0)) end++;
        return (line[..end], line[end..]);
    }

    static IEnumerable<string> NamesOf(IReadOnlyList<Command> commands) => commands.SelectMany(c => c.Form!.Names);
}
