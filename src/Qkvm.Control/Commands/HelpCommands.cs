using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

/// <summary>What the human monitor tells of itself.</summary>
static class HelpCommands
{
    public static readonly Command Help = new HumanCommand("help|?", "[cmd]", "show the help", (monitor, words) =>
    {
        string? name = words.Optional();
        words.End();
        CommandCatalogue catalogue = monitor.Context.Catalogue;
        IEnumerable<Command> shown = name == "info" ? catalogue.Info
            : catalogue.Human.Where(c => name == null || c.Form!.Names.Contains(name));
        foreach (Command command in shown) monitor.Write(command.Form!.HelpLine + "\n");
        if (name == null) monitor.Write("info [subcommand] -- show various information about the system state\n");
    });

    public static readonly Command History =
        new HumanCommand("info history", "", "show the command line history", (monitor, words) =>
    {
        words.End();
        for (int i = 0; i < monitor.History.Count; i++) monitor.Write($"{i}: '{monitor.History[i]}'\n");
    });
}
