namespace Qkvm.Control.Metrics;

public enum MetricKind
{
    /// <summary>Grows while the machine lives; its name ends with _total.</summary>
    Counter,
    Gauge,
}

/// <summary>One value, in the base unit that the metric's name ends with: seconds, bytes.</summary>
/// <param name="Labels">In the order in which they are written.</param>
public readonly record struct Sample(double Value, params (string Name, string Value)[] Labels);

/// <summary>Something to be measured, as Prometheus names things: qkvm_THING_UNIT.</summary>
/// <param name="Read">What is true now; nothing where the machine has no such thing. Under the machine lock.</param>
public sealed record Metric(string Name, MetricKind Kind, string Help,
    Func<CommandContext, IEnumerable<Sample>> Read);
