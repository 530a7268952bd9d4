namespace Qkvm.Img;

/// <summary>The tool cannot do what was asked: its message, as qemu-img words it, goes to stderr.</summary>
/// <param name="hasHint">The command line is wrong: where help is found is said below.</param>
sealed class ToolException(string message, int exitCode = 1, bool hasHint = false) : Exception(message)
{
    /// <summary>Of two lines, each of which is said with the program's name.</summary>
    public ToolException(string message, string second) : this(message) => Second = second;

    public string? Second { get; }
    public int ExitCode => exitCode;
    public bool HasHint => hasHint;
}
