using Qkvm.Storage.Graph;

namespace Qkvm.Img;

/// <summary>What can stand where somebody writes a command line of the image tool.</summary>
public static class ImageCompletion
{
    static readonly Option[] s_formats = [Option.Format, Option.TargetFormat, Option.BackingFormat];

    /// <param name="words">Behind the tool's name; the last one is being written.</param>
    /// <returns>Words, not chosen by their beginning yet; null for names of files.</returns>
    public static IEnumerable<string>? Complete(IReadOnlyList<string> words, Catalogue<BlockDriverModel> drivers)
    {
        if (words.Count == 1) return [.. SubcommandCatalogue.All.Select(one => one.Name), "--help", "--version"];
        if (Array.Find(SubcommandCatalogue.All, one => one.Name == words[0]) is not { } command) return [];
        if (Array.Find(command.Options, option => IsName(option, words[^2])) is { TakesValue: true } before)
            return s_formats.Contains(before) ? drivers.Models.Select(driver => driver.Name)
                : before == Option.Output ? ["human", "json"] : null;
        return words[^1].StartsWith('-') ? command.Options.SelectMany(NamesOf).Order(StringComparer.Ordinal) : null;
    }

    static bool IsName(Option option, string word) => NamesOf(option).Contains(word);

    static IEnumerable<string> NamesOf(Option option)
    {
        if (option.Short != '\0') yield return $"-{option.Short}";
        if (option.Long != null) yield return $"--{option.Long}";
    }
}
