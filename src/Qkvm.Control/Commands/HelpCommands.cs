using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

/// <summary>What the human monitor tells of itself.</summary>
static class HelpCommands
{
    const string Info = "info";

    public static readonly Command Help = new HumanCommand("help|?", "[cmd]", "show the help", (monitor, words) =>
    {
        string? name = words.Optional(), item = name == Info ? words.Optional() : null;
        words.End();
        CommandCatalogue catalogue = monitor.Context.Catalogue;
        if (item != null) Show(monitor, Named(catalogue.Info, item, $"{Info} {item}"));
        else if (name == Info) Show(monitor, catalogue.Info);
        else if (name != null) Show(monitor, Named(catalogue.Human, name, name));
        else
        {
            Show(monitor, catalogue.Human);
            monitor.Write("info [subcommand] -- show various information about the system state\n");
        }
    });

    public static readonly Command History =
        new HumanCommand("info history", "", "show the command line history", (monitor, words) =>
    {
        words.End();
        for (int i = 0; i < monitor.History.Count; i++) monitor.Write($"{i}: '{monitor.History[i]}'\n");
    });

    static IEnumerable<Command> Named(IReadOnlyList<Command> commands, string name, string shown) =>
        [CommandLine.Find(commands, name) ?? throw new MonitorException($"unknown command: '{shown}'")];

    static void Show(IMonitor monitor, IEnumerable<Command> commands)
    {
        foreach (Command command in commands) monitor.Write(command.Form!.HelpLine + "\n");
    }
}
