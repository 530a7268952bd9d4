namespace Qkvm.Nbd;

/// <summary>An option of the tool.</summary>
/// <param name="Short">'\0' for none.</param>
/// <param name="Value">What its value is called; null where it takes none.</param>
/// <param name="Refusal">Why it cannot be used; null for what is built.</param>
sealed record NbdToolOption(char Short, string Long, string? Value, string Help, string? Refusal = null);

/// <summary>What the tool was given, read as getopt_long does: options in any order, short ones together, long ones
/// abbreviated.</summary>
sealed class NbdArguments
{
    readonly List<(NbdToolOption Option, string Value)> _given = [];

    public List<string> Names { get; } = [];

    public bool Has(string name) => _given.Exists(one => one.Option.Long == name);

    /// <summary>The last value, or null.</summary>
    public string? Text(string name) => _given.FindLast(one => one.Option.Long == name).Value;

    public IEnumerable<string> Texts(string name) =>
        _given.Where(one => one.Option.Long == name).Select(one => one.Value);

    /// <exception cref="ConfigurationException">An option that is unknown, refused, or lacks its value.</exception>
    public static NbdArguments Parse(ReadOnlySpan<string> words, IReadOnlyList<NbdToolOption> known)
    {
        var arguments = new NbdArguments();
        for (int i = 0; i < words.Length; i++)
        {
            string word = words[i];
            if (word == "--")
            {
                arguments.Names.AddRange(words[(i + 1)..]);
                break;
            }
            if (word.StartsWith("--", StringComparison.Ordinal)) arguments.TakeLong(words, ref i, known);
            else if (word.Length > 1 && word[0] == '-') arguments.TakeShort(words, ref i, known);
            else arguments.Names.Add(word);
        }
        return arguments;
    }

    void TakeLong(ReadOnlySpan<string> words, ref int at, IReadOnlyList<NbdToolOption> known)
    {
        string word = words[at];
        int equals = word.IndexOf('=');
        string name = equals < 0 ? word[2..] : word[2..equals];
        NbdToolOption[] near =
            [.. known.Where(option => option.Long.StartsWith(name, StringComparison.Ordinal))];
        NbdToolOption option = Array.Find(near, one => one.Long == name) ?? (near is [var only] ? only : null)
            ?? throw new ConfigurationException(near.Length == 0 ? $"unrecognized option '{word}'"
                : $"option '{word}' is ambiguous; it may be {string.Join(", ", near.Select(one => $"--{one.Long}"))}");
        if (option.Value == null && equals >= 0)
            throw new ConfigurationException($"option '--{option.Long}' doesn't allow an argument");
        Add(option, option.Value == null ? "" : equals >= 0 ? word[(equals + 1)..] : Next(words, ref at, word));
    }

    void TakeShort(ReadOnlySpan<string> words, ref int at, IReadOnlyList<NbdToolOption> known)
    {
        string word = words[at];
        for (int i = 1; i < word.Length; i++)
        {
            NbdToolOption option = known.FirstOrDefault(one => one.Short == word[i])
                ?? throw new ConfigurationException($"invalid option -- '{word[i]}'");
            if (option.Value != null)
            {
                Add(option, i + 1 < word.Length ? word[(i + 1)..] : Next(words, ref at, $"-{word[i]}"));
                return;
            }
            Add(option, "");
        }
    }

    void Add(NbdToolOption option, string value)
    {
        if (option.Refusal is { } why) throw new ConfigurationException($"--{option.Long}: {why}");
        _given.Add((option, value));
    }

    static string Next(ReadOnlySpan<string> words, ref int at, string option) => at + 1 < words.Length ? words[++at]
        : throw new ConfigurationException($"option '{option}' requires an argument");
}
