using System.Runtime.Intrinsics.X86;

namespace Qkvm.Host.Tests;

/// <summary>The mask of the host's features: what its grammar takes, gives back and refuses.</summary>
public sealed class HostFeaturesTests
{
    static readonly HashSet<string> s_all = [.. HostFeatures.All];

    static string[] Left(string mask, IReadOnlySet<string>? present = null)
    {
        Assert.Null(HostFeatures.TryMask(present ?? s_all, mask, out HostFeatures features));
        return [.. HostFeatures.All.Where(features.Has).Order(StringComparer.Ordinal)];
    }

    const string V2 = "cx16 lahf-lm pni popcnt sse4.1 sse4.2 ssse3";

    [Theory]
    [InlineData("v1", "")]
    [InlineData("v2", V2)]
    [InlineData("v2,+aes", "aes " + V2)]
    [InlineData("v3", "abm avx avx2 bmi1 bmi2 cx16 f16c fma lahf-lm movbe pni popcnt sse4.1 sse4.2 ssse3 xsave")]
    [InlineData("v3,-avx", "abm bmi1 bmi2 cx16 lahf-lm movbe pni popcnt sse4.1 sse4.2 ssse3 xsave")]
    [InlineData("v1,+pni,+cx16", "cx16 pni")]
    [InlineData("v1,+ssse3", "")]
    public void A_level_leaves_what_it_names(string mask, string left) =>
        Assert.Equal(left.Split(' ', StringSplitOptions.RemoveEmptyEntries), Left(mask));

    [Fact]
    public void Without_a_level_features_are_taken_from_what_is_there()
    {
        Assert.Equal(s_all.Order(StringComparer.Ordinal), Left(""));
        Assert.Equal(s_all.Except(["popcnt"]).Order(StringComparer.Ordinal), Left("-popcnt"));
        string[] left = Left("-xsave");
        Assert.DoesNotContain(left, name => name.StartsWith("avx", StringComparison.Ordinal)
            || name is "fma" or "f16c" or "vaes" or "xsave");
        Assert.Contains("bmi2", left);
        Assert.Equal(["popcnt"], Left("", new HashSet<string> { "popcnt" }));
    }

    [Theory]
    [InlineData("v5", "'v5'")]
    [InlineData("avx", "'avx'")]
    [InlineData("-avx9", "'-avx9'")]
    [InlineData("-avx,v2", "'v2'")]
    [InlineData("-avx,", "''")]
    [InlineData("+", "'+'")]
    public void What_is_no_mask_is_refused(string mask, string quoted)
    {
        Assert.Contains(quoted, HostFeatures.TryMask(s_all, mask, out HostFeatures features));
        Assert.DoesNotContain(HostFeatures.All, features.Has);
    }

    [Theory]
    [InlineData("v2", "lacks cx16, popcnt")]
    [InlineData("v1,+cx16", "lacks cx16")]
    public void What_the_processor_lacks_is_not_given(string mask, string why) =>
        Assert.Contains(why,
            HostFeatures.TryMask(new HashSet<string>(V2.Split(' ').Except(["cx16", "popcnt"])), mask, out _));

    [Fact]
    public void The_host_is_asked_and_nothing_is_wrong_with_its_mask()
    {
        Assert.Null(HostFeatures.Complaint);
        HashSet<string> names = HostFeatures.Ask();
        Assert.All([(Sse42.IsSupported, "sse4.2"), (Popcnt.IsSupported, "popcnt"), (Avx2.IsSupported, "avx2"),
            (Bmi2.IsSupported, "bmi2"), (Avx512BW.IsSupported, "avx512bw")],
            runtime => Assert.True(!runtime.IsSupported || names.Contains(runtime.Item2), runtime.Item2));
    }
}
