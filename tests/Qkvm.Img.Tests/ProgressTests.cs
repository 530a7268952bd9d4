using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using Qkvm.Host;

namespace Qkvm.Img.Tests;

/// <summary>How far a subcommand is: on a terminal, for who asks by a signal, and for programs.</summary>
public sealed partial class ProgressTests : IDisposable
{
    const int UserSignal = 10;                                     // SIGUSR1, signal(7)
    const int Mebibytes = 24;

    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-img-").FullName;

    string Source => Path.Combine(_directory, "a.raw");
    string Target => Path.Combine(_directory, "b.raw");

    public ProgressTests() => ToolProcess.MakeSource(Source, Mebibytes);

    [Fact]
    public void A_terminal_is_told_the_rate_and_the_time_that_is_left()
    {
        using Process process = ToolProcess.StartOnTerminal("convert", "-p", "-f", "raw", "-O", "raw", "-r", "8M",
            Source, Target);
        string text = process.StandardOutput.ReadToEnd();
        Assert.True(process.WaitForExit(ToolProcess.Patience), "it goes on");
        Assert.Equal(0, process.ExitCode);
        Assert.Matches(OnTerminal(), text);
        string last = text.TrimEnd('\r', '\n').Split('\r')[^1];
        Assert.StartsWith("    (100.00/100%)", last);
        Assert.Equal(Mebibytes << 20, new FileInfo(Target).Length);
    }

    [Fact]
    public void A_signal_asks_for_one_line()
    {
        using Process process = ToolProcess.Start("convert", "-f", "raw", "-O", "raw", "-r", "8M", Source, Target);
        ToolProcess.AwaitBegin(process, Target, Mebibytes << 20);
        Assert.Equal(0, Libc.tgkill(process.Id, process.Id, UserSignal));
        Assert.Matches(Line(), process.StandardOutput.ReadLine()!);
        Assert.Equal("", process.StandardOutput.ReadToEnd());
        Assert.True(process.WaitForExit(ToolProcess.Patience), "it goes on");
        Assert.Equal(0, process.ExitCode);
        Assert.Equal(File.ReadAllBytes(Source), File.ReadAllBytes(Target));
    }

    [Fact]
    public void Programs_get_a_line_of_JSON_for_each_step()
    {
        using StringWriter output = new(), errors = new();
        int code = ImageTool.Run("img", ["convert", "--progress-json", "-f", "raw", Source, Target],
            Catalogue.BlockDrivers, output, errors);
        Assert.Equal((0, ""), (code, errors.ToString()));
        JsonElement[] lines = [.. output.ToString().TrimEnd().Split('\n')
            .Select(line => JsonDocument.Parse(line).RootElement)];
        const long total = Mebibytes << 20;
        Assert.Equal(0, lines[0].GetProperty("percent").GetDouble());
        Assert.Equal((100, total), (lines[^1].GetProperty("percent").GetDouble(),
            lines[^1].GetProperty("done").GetInt64()));
        Assert.True(lines.Length > 2, "only the beginning and the end");
        Assert.All(lines, line => Assert.Equal(total, line.GetProperty("total").GetInt64()));
        Assert.All(lines.Zip(lines.Skip(1)), pair =>
        {
            foreach (string rising in new[] { "percent", "done", "seconds" })
                Assert.True(pair.First.GetProperty(rising).GetDouble() <= pair.Second.GetProperty(rising).GetDouble(),
                    $"{rising}: {pair}");
        });
    }

    [Theory]
    [InlineData("-p", "-q")] [InlineData("--progress-json", "-q")]
    public void Who_wants_quiet_is_told_nothing(params string[] options)
    {
        using StringWriter output = new(), errors = new();
        int code = ImageTool.Run("img", ["convert", .. options, "-f", "raw", Source, Target], Catalogue.BlockDrivers,
            output, errors);
        Assert.Equal((0, "", ""), (code, output.ToString(), errors.ToString()));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [GeneratedRegex(@"\(\d+\.\d\d/100%\)  [\d.]+ MiB/s  \d\d:\d\d:\d\d left")]
    private static partial Regex OnTerminal();

    [GeneratedRegex(@"^    \(\d+\.\d\d/100%\)$")]
    private static partial Regex Line();
}
