using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Qkvm.Tests;

/// <summary>docs/deviations.md says what the sources say.</summary>
public sealed class DeviationsTests
{
    [Fact]
    public void The_page_has_every_deviation_that_a_source_names()
    {
        string script = Path.Combine(Sources.Root, "scripts", "deviations.sh");
        using Process process =
            Process.Start(new ProcessStartInfo("bash", [script]) { RedirectStandardOutput = true })!;
        string page = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
        Assert.True(page == File.ReadAllText(Path.Combine(Sources.Root, "docs", "deviations.md")),
            "a comment on a deviation has changed: scripts/deviations.sh >docs/deviations.md");
        int named = Directory.EnumerateFiles(Path.Combine(Sources.Root, "src"), "*.cs", SearchOption.AllDirectories)
            .Sum(file => Regex.Matches(File.ReadAllText(file), @"\bDeviations?\b").Count);
        Assert.Equal(named, Regex.Matches(page, "^- \\*\\*", RegexOptions.Multiline).Count);
        Assert.Contains("docs/deviations.md", File.ReadAllText(Path.Combine(Sources.Root, "README.md")));
    }
}
