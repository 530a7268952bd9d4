namespace Qkvm.Core.Configuration;

/// <summary>The names that users give: id=.</summary>
public static class Identifier
{
    /// <exception cref="ConfigurationException">It is none; null, for no name, passes.</exception>
    public static void Check(string? id, string owner)
    {
        if (id != null && !IsWellFormed(id))
            throw new ConfigurationException($"{owner}: id '{id}': identifiers consist of letters, digits, '-', " +
                "'.', '_', starting with a letter");
    }

    public static bool IsWellFormed(string id) => id.Length > 0 && char.IsAsciiLetter(id[0])
        && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_');
}
