namespace Qkvm.Img;

/// <summary>What a subcommand was given: options in any order, among them names. As getopt_long reads it: short ones
/// together, long ones abbreviated.</summary>
sealed class Arguments
{
    readonly List<(Option Option, string Value)> _options = [];
    readonly List<string> _names = [];

    Arguments() { }

    public IReadOnlyList<string> Names => _names;

    /// <summary>In the order of the command line.</summary>
    public IEnumerable<(Option Option, string Value)> Given => _options;

    public bool Has(Option option) => _options.Exists(given => given.Option == option);

    /// <summary>The last one given, or null.</summary>
    public string? Text(Option option) =>
        _options.FindLast(given => given.Option == option) is { Option: not null } found ? found.Value : null;

    public IEnumerable<string> Texts(Option option) =>
        _options.Where(given => given.Option == option).Select(given => given.Value);

    /// <summary>The last word, of a subcommand that ends with a size.</summary>
    public string? Size { get; private init; }

    public static Arguments Parse(ReadOnlySpan<string> words, IReadOnlyList<Option> known, string? size = null)
    {
        var arguments = new Arguments { Size = size };
        for (int i = 0; i < words.Length; i++)
        {
            string word = words[i];
            if (word == "--")
            {
                arguments._names.AddRange(words[(i + 1)..]);
                break;
            }
            if (word.StartsWith("--", StringComparison.Ordinal)) arguments.TakeLong(words, ref i, known);
            else if (word.Length > 1 && word[0] == '-') arguments.TakeShort(words, ref i, known);
            else arguments._names.Add(word);
        }
        return arguments;
    }

    void TakeLong(ReadOnlySpan<string> words, ref int at, IReadOnlyList<Option> known)
    {
        string word = words[at];
        int equals = word.IndexOf('=');
        string name = equals < 0 ? word[2..] : word[2..equals];
        Option option = known.FirstOrDefault(o => o.Long == name) ?? Abbreviated(name, known)
            ?? throw Unknown(word);
        if (!option.TakesValue)
        {
            if (equals >= 0) throw Unknown(word);
            _options.Add((option, ""));
        }
        else if (equals >= 0) _options.Add((option, word[(equals + 1)..]));
        else _options.Add((option, Next(words, ref at, word)));
    }

    static Option? Abbreviated(string name, IReadOnlyList<Option> known)
    {
        Option[] near = [.. known.Where(o => o.Long?.StartsWith(name, StringComparison.Ordinal) == true)];
        return near is [var only] ? only : null;
    }

    void TakeShort(ReadOnlySpan<string> words, ref int at, IReadOnlyList<Option> known)
    {
        string word = words[at];
        for (int i = 1; i < word.Length; i++)
        {
            char letter = word[i];
            Option option = known.FirstOrDefault(o => o.Short == letter) ?? throw Unknown(word);
            if (!option.TakesValue) _options.Add((option, ""));
            else
            {
                _options.Add((option, i + 1 < word.Length ? word[(i + 1)..] : Next(words, ref at, word)));
                return;
            }
        }
    }

    static string Next(ReadOnlySpan<string> words, ref int at, string option) => at + 1 < words.Length ? words[++at]
        : throw new ToolException($"missing argument for option '{option}'", hasHint: true);

    static ToolException Unknown(string word) => new($"unrecognized option '{word}'", hasHint: true);
}
