using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Accel;

/// <summary>An accelerator that counts what it does: query-stats.</summary>
public interface ICounting
{
    /// <summary>What is counted now, of one vCPU or (null) of the machine. Main loop; the vCPUs may run.</summary>
    IReadOnlyList<Statistic> Statistics(IVCpu? cpu);
}

/// <summary>QMP's StatsType, in the order of KVM_STATS_TYPE_.</summary>
[JsonConverter(typeof(NamedEnum<StatisticKind>))]
public enum StatisticKind { Cumulative, Instant, Peak, LinearHistogram, Log2Histogram }

/// <summary>QMP's StatsUnit.</summary>
[JsonConverter(typeof(NamedEnum<StatisticUnit>))]
public enum StatisticUnit { Bytes, Seconds, Cycles, Boolean }

/// <param name="Unit">Null: a plain number.</param>
/// <param name="Base">10 or 2, with its <paramref name="Exponent"/>: what one of them is worth in units.</param>
/// <param name="BucketSize">Of a linear histogram; else 0.</param>
/// <param name="Values">One, or those of a histogram.</param>
public sealed record Statistic(string Name, StatisticKind Kind, StatisticUnit? Unit, int Base, int Exponent,
    uint BucketSize, IReadOnlyList<ulong> Values)
{
    /// <summary>A plain count.</summary>
    public static Statistic Count(string name, ulong value) =>
        new(name, StatisticKind.Cumulative, null, 10, 0, 0, [value]);

    public bool IsHistogram => Kind is StatisticKind.LinearHistogram or StatisticKind.Log2Histogram;
}
