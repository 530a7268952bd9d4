using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Configuration;

namespace Qkvm.Cli;

/// <summary>throttling.* of -drive, each with its old name: how fast the drive may be.</summary>
static class DriveThrottle
{
    const string Prefix = "throttling";

    static readonly (string Name, string Old)[] s_rates =
    [
        ("bps-total", "bps"), ("bps-read", "bps_rd"), ("bps-write", "bps_wr"),
        ("iops-total", "iops"), ("iops-read", "iops_rd"), ("iops-write", "iops_wr"),
    ];

    /// <summary>What -drive takes for it.</summary>
    public static IEnumerable<string> Names =>
        [Prefix, "group", "iops_size", .. s_rates.SelectMany(rate => (string[])[rate.Old, $"{rate.Old}_max"])];

    /// <returns>Null: nothing is said of it.</returns>
    /// <exception cref="ConfigurationException">The limits make no sense.</exception>
    public static ThrottleLimits? LimitsOf(Options options)
    {
        if (!Names.Any(options.Has)) return null;
        ThrottleLimits limits = ThrottleLimits.None.With(name => Value(options, name, OldNameOf(name)));
        return limits.Fault is { } fault ? throw options.Error(fault) : limits;
    }

    static string? OldNameOf(string name) => name == "iops-size" ? "iops_size"
        : s_rates.Where(rate => name == rate.Name).Select(rate => rate.Old)
            .Concat(s_rates.Where(rate => name == $"{rate.Name}-max").Select(rate => $"{rate.Old}_max"))
            .FirstOrDefault();

    /// <returns>The group's name; null: the drive has its own.</returns>
    public static string? GroupOf(Options options) => OnlyOne(options, "group", "group");

    static long? Value(Options options, string name, string? old) =>
        OnlyOne(options, name, old) is not { } text ? null
        : long.TryParse(text, out long value) ? value
        : throw options.Error($"{Prefix}.{name}={text}: expects a number");

    static string? OnlyOne(Options options, string name, string? old)
    {
        string? text = options.Nested(Prefix)?.Text(name), oldText = old == null ? null : options.Text(old);
        return text == null || oldText == null ? text ?? oldText
            : throw options.Error($"'{Prefix}.{name}' and its alias '{old}' can't be used at the same time");
    }
}
