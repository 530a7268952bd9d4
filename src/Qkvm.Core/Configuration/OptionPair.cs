namespace Qkvm.Core.Configuration;

/// <summary>One name=value as the user wrote it, short forms (a bare name, no-name) resolved; nested names are
/// dotted.</summary>
public readonly record struct OptionPair(string Name, string Value)
{
    /// <summary>JSON's {} or []: the name has values below it, and there are none.</summary>
    public bool IsEmpty { get; init; }

    internal static OptionPair Empty(string name) => new(name, "") { IsEmpty = true };
}
