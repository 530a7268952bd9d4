using System.CommandLine;
using System.CommandLine.Parsing;
using Qkvm.Core.Devices;

namespace Qkvm.Cli;

/// <summary>One option as it was given; Argument is null for a flag, Name is "" for a positional disk.</summary>
public readonly record struct GivenOption(string Name, string? Argument)
{
    public override string ToString() => Name.Length == 0 ? Argument! : Argument == null ? $"-{Name}"
        : $"-{Name} {Argument}";
}

/// <summary>Splits the command line into its options in the order given, with one dash or two.</summary>
public static class CommandLineParser
{
    /// <exception cref="ConfigurationException">An unknown option, or one without its argument.</exception>
    public static IReadOnlyList<GivenOption> Parse(string[] arguments)
    {
        // no RootCommand: that has a name, --help and --version of its own, and looks for them by reflection
        var root = new Command(Guard.ToString());
        var options = new Dictionary<string, OptionSpec>(StringComparer.Ordinal);
        foreach (OptionSpec spec in OptionCatalogue.All)
        {
            options[$"-{spec.Name}"] = options[$"--{spec.Name}"] = spec;
            root.Options.Add(new Option<string[]>($"-{spec.Name}", $"--{spec.Name}")
            {
                Arity = spec.Argument == null ? ArgumentArity.Zero : new ArgumentArity(0, 100_000),
                AllowMultipleArgumentsPerToken = false,
            });
        }
        root.Arguments.Add(new Argument<string[]>("disk") { Arity = ArgumentArity.ZeroOrMore });
        ParseResult result =
            root.Parse(Protect(arguments, options),
            new ParserConfiguration { EnablePosixBundling = false, ResponseFileTokenReplacer = null });
        return Pair(result.Tokens, options);
    }

    /// <summary>An argument that begins like an option (-append "-x", -device -y) must stay an argument.</summary>
    static string[] Protect(string[] arguments, Dictionary<string, OptionSpec> options)
    {
        var kept = (string[])arguments.Clone();
        for (int i = 0; i + 1 < kept.Length; i++)
        {
            if (!options.TryGetValue(kept[i], out OptionSpec? spec) || spec.Argument == null) continue;
            kept[++i] = Guard + kept[i];
        }
        return kept;
    }

    const char Guard = '\u0001';

    static List<GivenOption> Pair(IReadOnlyList<Token> tokens, Dictionary<string, OptionSpec> options)
    {
        var given = new List<GivenOption>();
        for (int i = 0; i < tokens.Count; i++)
        {
            string text = tokens[i].Value;
            if (tokens[i].Type == TokenType.Option && options.TryGetValue(text, out OptionSpec? spec))
            {
                if (spec.Argument == null) given.Add(new GivenOption(spec.Name, null));
                else if (i + 1 < tokens.Count && tokens[i + 1].Value.StartsWith(Guard))
                    given.Add(new GivenOption(spec.Name, tokens[++i].Value[1..]));
                else throw new ConfigurationException($"-{spec.Name}: requires an argument: -{spec.Name} " +
                    $"{spec.Argument}");
            }
            else if (text.StartsWith('-') && text.Length > 1)
                throw new ConfigurationException($"{text}: invalid " +
                    $"option{Suggestion.For(text.TrimStart('-'), OptionCatalogue.All.Select(o => o.Name), "-")}");
            else given.Add(new GivenOption("", text.TrimStart(Guard)));
        }
        return given;
    }
}
