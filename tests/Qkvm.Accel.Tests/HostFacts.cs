using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Accel.Tests;

/// <summary>A test whose guest uses features that the software CPU has only where the host has them.</summary>
/// <param name="features">Names, separated by spaces.</param>
public sealed class HostFactAttribute(string features) : ConditionalFactAttribute(HostNeeds.WhyNot(features));

/// <summary>Likewise, with data.</summary>
public sealed class HostTheoryAttribute : TheoryAttribute
{
    public HostTheoryAttribute(string features) => Skip = HostNeeds.WhyNot(features);
}

static class HostNeeds
{
    const int Part = 8;

    /// <summary>Of random tests: under a mask, of which there are several, each runs a part.</summary>
    public static int Share(int count) => HostFeatures.IsMasked ? count / Part : count;

    /// <summary>How many kinds of instruction are to be met at least: on a lesser processor, or in less time, half of
    /// them.</summary>
    public static int Kinds(int count) => HostFeatures.IsMasked || !HostFeatures.Current.Has("avx2") ? count / 2
        : count;

    public static string? WhyNot(string features)
    {
        string[] missing = [.. features.Split(' ').Where(name => !HostFeatures.Current.Has(name))];
        return missing.Length == 0 ? null : "needs a processor with " +
            $"{string.Join(", ", missing)}{(HostFeatures.IsMasked ? $", which {HostFeatures.Variable} hides" : "")}";
    }
}
