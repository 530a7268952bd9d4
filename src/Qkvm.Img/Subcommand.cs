namespace Qkvm.Img;

/// <summary>What the tool can do: its name, what it takes, what does it.</summary>
/// <param name="Usage">As help shows it, behind the name.</param>
/// <param name="Run">Its result is the exit code.</param>
sealed record Subcommand(string Name, string Usage, Option[] Options, Func<Tool, Arguments, Task<int>> Run)
{
    /// <summary>The code where it could not do its work; what was found has codes of its own.</summary>
    public int Failure { get; init; } = 1;

    /// <summary>The last word is a size, which may begin with '-'.</summary>
    public bool EndsWithSize { get; init; }
}
