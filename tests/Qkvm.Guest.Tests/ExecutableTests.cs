using System.Diagnostics;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>What the published file needs of the host, and what it is by other names.</summary>
public sealed class ExecutableTests : IDisposable
{
    readonly ScratchDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [PublishedTheory]
    [InlineData("qkvm-img", "qemu-img version")] [InlineData("qemu-img", "qemu-img version")]
    [InlineData("qkvm-nbd", "qemu-nbd")] [InlineData("qemu-nbd", "qemu-nbd")]
    [InlineData("qemu-system-x86_64", "QEMU emulator version")]
    public void A_link_makes_it_the_tool_of_that_name(string link, string words)
    {
        File.CreateSymbolicLink(_directory[link], Surroundings.Program);
        using Process tool = Process.Start(new ProcessStartInfo(_directory[link], "--version")
            { RedirectStandardOutput = true })!;
        Assert.Contains(words, tool.StandardOutput.ReadToEnd(), StringComparison.Ordinal);
        tool.WaitForExit();
        Assert.Equal(0, tool.ExitCode);
    }

    [PublishedFact]
    public void It_needs_no_newer_glibc_than_the_oldest()
    {
        List<(string Name, Version Version)> needs = Glibc.Symbols(Surroundings.Program, defined: false);
        Assert.Contains(needs, symbol => symbol.Name == "__libc_start_main");
        Assert.DoesNotContain(needs, symbol => symbol.Version > Glibc.Oldest);
    }
}

/// <summary>Needs the program as make publishes it: what `dotnet build` makes has its code in files beside
/// it.</summary>
sealed class PublishedFactAttribute() : ConditionalFactAttribute(Published.Without);

sealed class PublishedTheoryAttribute() : ConditionalTheoryAttribute(Published.Without);

static class Published
{
    public static string? Without => Surroundings.WithoutProgram
        ?? (File.Exists(Surroundings.Program + ".dll")
            ? $"needs what make builds: {Surroundings.Program} is no whole program" : null);
}
