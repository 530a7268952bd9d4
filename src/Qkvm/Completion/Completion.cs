using Qkvm.Cli;
using Qkvm.Img;
using Qkvm.Img.Nbd;

namespace Qkvm.Completion;

/// <summary>qkvm completion: teaches a shell to complete command lines. What the shell then asks is answered by this
/// program itself, from its catalogues.</summary>
static class Completion
{
    public const string Word = "completion";

    /// <summary>In front of the answers' last line, where names of files fit behind that text.</summary>
    const string Files = ":files ";

    const string Usage = """
        usage: qkvm completion bash|zsh|fish
        Prints what teaches the shell to complete qkvm's command lines:
          bash:  source <(qkvm completion bash)            in ~/.bashrc
          zsh:   source <(qkvm completion zsh)             in ~/.zshrc, behind compinit
          fish:  qkvm completion fish | source             in ~/.config/fish/config.fish
        """;

    /// <returns>The status to end with.</returns>
    public static int Run(string[] words, TextWriter output, TextWriter errors)
    {
        switch (words)
        {
            case ["-h" or "-help" or "--help"]: output.WriteLine(Usage); return 0;
            case ["bash"]: output.Write(Shells.Bash); return 0;
            case ["zsh"]: output.Write(Shells.Zsh); return 0;
            case ["fish"]: output.Write(Shells.Fish); return 0;
            case ["words", "--", .. string[] written] when written.Length > 0:
                foreach (string line in Answer(written)) output.Write($"{line}\n");
                return 0;
            default:
                errors.WriteLine($"qkvm completion {string.Join(' ', words)}: expects a shell: bash, zsh or fish");
                return 1;
        }
    }

    /// <param name="words">Behind "qkvm"; the last one is being written, and may be empty.</param>
    /// <returns>What it can become, in order; last perhaps <see cref="Files"/> and what stands before the
    /// name.</returns>
    public static IEnumerable<string> Answer(IReadOnlyList<string> words)
    {
        string word = words[^1];
        if (words is ["img", _, ..])
            return Fitting(ImageCompletion.Complete([.. words.Skip(1)], Catalogue.BlockDrivers), word);
        if (words is [Word, _]) return Fitting(["bash", "fish", "zsh"], word);
        if (words is [Doctor.Doctor.Word, _]) return Fitting(["--json"], word);
        if (words.Count > 1 && OptionWords.Find(words[^2]) is { Argument: not null } option)
            return OptionWords.Complete(option, word, words);
        if (word.StartsWith('-')) return Fitting(OptionWords.Names, word);
        IEnumerable<string> first = words.Count == 1
            ? Fitting(["img", NbdTool.Word, Doctor.Doctor.Word, Word, Manual.Manual.Word], word) : [];
        return [.. first, FilesBehind("")];
    }

    /// <param name="all">Null: names of files.</param>
    static IEnumerable<string> Fitting(IEnumerable<string>? all, string word) => all == null ? [FilesBehind("")]
        : all.Where(one => one.StartsWith(word, StringComparison.Ordinal));

    /// <summary>The line that has the shell add names of files behind a text.</summary>
    public static string FilesBehind(string text) => Files + text;
}
