using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>What the published file needs of the host.</summary>
public sealed class ExecutableTests
{
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
sealed class PublishedFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutProgram
    ?? (File.Exists(Surroundings.Program + ".dll") ? $"needs what make builds: {Surroundings.Program} is no whole " +
    "program" : null));
