namespace Qkvm.Control.Hmp;

/// <summary>A human monitor as a command's form sees it.</summary>
public interface IMonitor
{
    CommandContext Context { get; }

    /// <summary>What was typed on this monitor, the oldest first.</summary>
    IReadOnlyList<string> History { get; }

    void Write(string text);
}

/// <summary>What was typed wrongly: printed on the monitor as it is.</summary>
public sealed class MonitorException(string message) : Exception(message);
