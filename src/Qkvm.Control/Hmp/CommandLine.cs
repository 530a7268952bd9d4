using Qkvm.Core.Machine;

namespace Qkvm.Control.Hmp;

/// <summary>Finds what a typed line asks for, and runs it.</summary>
public static class CommandLine
{
    const string Info = "info";

    /// <summary>Runs one line; mistakes are printed. Not complete while the command answers later.</summary>
    public static async ValueTask ExecuteAsync(IMonitor monitor, string line)
    {
        List<string> words = MonitorArguments.Split(line);
        if (words.Count == 0) return;
        // "x/4xw" and "print/d": the format may touch the command.
        int slash = words[0].IndexOf('/');
        if (slash > 0) words = [words[0][..slash], words[0][slash..], .. words.Skip(1)];
        try
        {
            CommandCatalogue catalogue = monitor.Context.Catalogue;
            if (words[0] == Info && words.Count == 1) words = ["help", Info];
            bool isInfo = words[0] == Info;
            string name = isInfo ? words[1] : words[0], shown = isInfo ? $"{Info} {name}" : name;
            Command command = Find(isInfo ? catalogue.Info : catalogue.Human, name)
                ?? throw new MonitorException($"unknown command: '{shown}'");
            string called = isInfo ? shown : command.Form!.Name;
            await command.RunAsync(monitor, new MonitorArguments(monitor, called, [.. words.Skip(isInfo ? 2 : 1)]))
                .ConfigureAwait(false);
        }
        catch (MonitorException e) { monitor.Write($"{e.Message}\n"); }
        catch (Exception e) when (Command.ErrorOf(e) is { } error) { monitor.Write($"Error: {error.Message}\n"); }
    }

    public static Command? Find(IReadOnlyList<Command> commands, string name) =>
        commands.FirstOrDefault(c => c.Form!.Names.Contains(name));

    /// <summary>The names that may continue a line.</summary>
    public static IReadOnlyList<string> Complete(CommandCatalogue catalogue, string head)
    {
        string[] words = head.TrimStart().Split(' ', StringSplitOptions.RemoveEmptyEntries);
        bool fresh = head.Length == 0 || head[^1] == ' ';
        int index = words.Length - (fresh ? 0 : 1);
        string start = fresh ? "" : words[^1];
        IEnumerable<string> names = index == 0 || index == 1 && words[0] is "help" or "?"
            ? NamesOf(catalogue.Human).Append(Info)
            : index == 1 && words[0] == Info ? NamesOf(catalogue.Info) : [];
        return [.. names.Where(n => n.StartsWith(start, StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
    }

    static IEnumerable<string> NamesOf(IReadOnlyList<Command> commands) => commands.SelectMany(c => c.Form!.Names);
}
