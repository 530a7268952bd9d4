using Qkvm.Control.Hmp;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>log and logfile: what -d and -D say, while the machine runs.</summary>
static class LogCommands
{
    static readonly Completion Names = static (_, start) =>
    {
        string before = start[..(start.LastIndexOf(',') + 1)];
        return LogItems.All.Where(known => known.Item != LogItem.Lockstep).Select(known => before + known.Name)
            .Append("none");
    };

    public static readonly Command Items = new HumanCommand("log", "item1[,...]",
        "activate logging of the specified items", static (monitor, words) =>
        {
            string text = words.Word();
            words.End();
            MachineLog log = LogOf(monitor);
            if (text == "trace:help")
            {
                foreach (TraceEvent known in log.Events.All) monitor.Write($"{known.Name}\n");
                return;
            }
            List<string> traces = [];
            (string Item, string? Reason)? wrong = null;
            LogItem items = text == "none" ? LogItem.None : LogItems.Parse(text, traces, out wrong);
            if (wrong is ({ } name, { } reason)) throw new CommandException($"{name}: {reason}");
            if (wrong != null) throw new MonitorException(LogItems.Help("log").TrimEnd('\n'));
            if ((items & LogItem.Lockstep) != 0 && !log.Has(LogItem.Lockstep))
                throw new CommandException("lockstep: it begins with the machine; use -d lockstep");
            foreach (string pattern in traces)
                if (!log.Events.Request(pattern)) monitor.Write($"warning: trace event '{pattern}' does not exist\n");
            if (LogItems.Warning("log", items, monitor.Context.Machine.Accelerator) is { } warning)
                monitor.Write($"warning: {warning}\n");
            log.Select(items | log.Items & LogItem.Lockstep);
        }) { Completes = [Names] };

    public static readonly Command OpenFile = new HumanCommand("logfile", "filename", "output logs to 'filename'",
        static (monitor, words) =>
        {
            string file = words.Word("filename");
            words.End();
            try { LogOf(monitor).OpenFile(file); }
            catch (ConfigurationException e) { throw new MonitorException(e.Message); }
        }) { Completes = [Completions.Files] };

    static MachineLog LogOf(IMonitor monitor) =>
        monitor.Context.Log ?? throw new CommandException("This machine has no log");
}
