using Qkvm.Core.Logging;
using Qkvm.Core.Machine;

namespace Qkvm;

/// <summary>The log that the command line describes.</summary>
static class LogOptions
{
    /// <summary>What -d, -D, -dfilter and -trace ask for.</summary>
    /// <exception cref="ConfigurationException">A file cannot be written or read.</exception>
    public static MachineLog Open(MachineConfig config, Notices notices)
    {
        List<string> traces = [.. config.TracePatterns];
        LogItem items = LogItem.None;
        foreach (string item in config.LogItems) items |= LogItems.Parse(item, traces, out _);
        foreach (string path in config.TraceLists) traces.AddRange(ReadPatterns(path));
        var log = new MachineLog(Console.Error)
        {
            Filter = config.LogFilters.Count > 0 ? AddressFilter.Parse(config.LogFilters) : null,
        };
        try
        {
            // Files for each thread are made at once; nothing is lost to a single one before.
            log.Start(config.LogFile, items);
        }
        catch (ConfigurationException e)
        {
            string owner = config.LogFile is { } path ? $"-D {path}" : "-d tid";
            throw new ConfigurationException($"{owner}: {e.Message}", e);
        }
        foreach (string pattern in traces)
            if (!log.Events.Request(pattern))
                notices.Warn($"-trace {pattern}: there is no such trace event; '-trace help' lists them");
        return log;
    }

    /// <summary>A pattern on each line; empty lines and those with # are passed over.</summary>
    static IEnumerable<string> ReadPatterns(string path)
    {
        try
        {
            return [.. File.ReadLines(path).Select(line => line.Trim())
                .Where(line => line.Length > 0 && line[0] != '#')];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-trace events={path}: {e.Message}", e);
        }
    }
}
