namespace Qkvm.Core.Block.Throttling;

/// <summary>The limits of a disk or of a group of disks.</summary>
/// <param name="RequestSize">Bytes from which on a request counts as several; 0: each counts as one.</param>
public sealed record ThrottleLimits(RateLimit BytesTotal, RateLimit BytesRead, RateLimit BytesWrite,
    RateLimit RequestsTotal, RateLimit RequestsRead, RateLimit RequestsWrite, long RequestSize)
{
    const long Greatest = 1_000_000_000_000_000;

    static readonly RateLimit s_free = new(0);

    public static readonly ThrottleLimits None = new(s_free, s_free, s_free, s_free, s_free, s_free, 0);

    /// <summary>As options and QMP name the rates, in the order of <see cref="All"/>; each has NAME-max and
    /// NAME-max-length too.</summary>
    static readonly string[] s_rates =
        ["bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"];

    const string OfSize = "iops-size", Max = "-max", MaxLength = "-max-length";

    /// <summary>The names of all its numbers.</summary>
    public static IEnumerable<string> Names =>
        [.. s_rates.SelectMany(rate => (string[])[rate, rate + Max, rate + MaxLength]), OfSize];

    /// <summary>Whether a name is that of a burst's length, which is 1 where nothing is said.</summary>
    public static bool IsLength(string name) => name.EndsWith(MaxLength, StringComparison.Ordinal);

    /// <summary>The number of that name.</summary>
    public long this[string name]
    {
        get
        {
            if (name == OfSize) return RequestSize;
            int rate = Array.FindIndex(s_rates, one => name.StartsWith(one, StringComparison.Ordinal));
            RateLimit limit = All[rate];
            return name == s_rates[rate] ? limit.Average : IsLength(name) ? limit.BurstSeconds : limit.Burst;
        }
    }

    /// <summary>The same with other numbers.</summary>
    /// <param name="value">What is said of a name; null: it stays.</param>
    public ThrottleLimits With(Func<string, long?> value)
    {
        RateLimit[] rates = [.. s_rates.Select(rate => new RateLimit(value(rate) ?? this[rate],
            value(rate + Max) ?? this[rate + Max], value(rate + MaxLength) ?? this[rate + MaxLength]))];
        return new(rates[0], rates[1], rates[2], rates[3], rates[4], rates[5], value(OfSize) ?? RequestSize);
    }

    RateLimit[] All => [BytesTotal, BytesRead, BytesWrite, RequestsTotal, RequestsRead, RequestsWrite];

    /// <summary>Whether they limit anything.</summary>
    public bool IsAny => All.Any(limit => limit.Average != 0);

    /// <summary>What makes no sense in them, in QEMU's words; null: nothing.</summary>
    public string? Fault
    {
        get
        {
            if (IsBoth(BytesTotal, BytesRead, BytesWrite) || IsBoth(RequestsTotal, RequestsRead, RequestsWrite))
                return "bps/iops/max total values and read/write values cannot be used at the same time";
            if (RequestSize != 0 && RequestsTotal.Average == 0 && RequestsRead.Average == 0
                && RequestsWrite.Average == 0) return "iops size requires an iops value to be set";
            return All.Append(new RateLimit(RequestSize)).Select(FaultOf).FirstOrDefault(fault => fault != null);
        }
    }

    static bool IsBoth(RateLimit total, RateLimit read, RateLimit write) =>
        total.Average != 0 && (read.Average != 0 || write.Average != 0)
        || total.Burst != 0 && (read.Burst != 0 || write.Burst != 0);

    static string? FaultOf(RateLimit limit) => limit switch
    {
        { Average: < 0 or > Greatest } or { Burst: < 0 or > Greatest } =>
            $"bps/iops/max values must be within [0, {Greatest}]",
        { BurstSeconds: 0 } => "the burst length cannot be 0",
        { BurstSeconds: < 0 } => "the burst length must be positive",
        { BurstSeconds: > 1, Burst: 0 } => "burst length set without burst rate",
        { Burst: > 0 } when limit.BurstSeconds > Greatest / limit.Burst => "burst length too high for this burst rate",
        { Burst: > 0, Average: 0 } => "bps_max/iops_max require corresponding bps/iops values",
        { Burst: > 0 } when limit.Burst < limit.Average => "bps_max/iops_max cannot be lower than bps/iops",
        _ => null,
    };
}
