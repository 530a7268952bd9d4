using System.Text.RegularExpressions;
using Qkvm.Core.Devices;

namespace Qkvm.Cli;

/// <summary>-readconfig and -set: options that stand in a file, <c>[device "net0"]</c> and <c>driver = "e1000"</c>
/// below it, and values added to options that were given before.</summary>
static partial class ConfigurationFile
{
    const int Largest = 1 << 20;                                   // bytes of a file

    /// <summary>The options in their order, with those of files in the place of -readconfig.</summary>
    /// <exception cref="ConfigurationException">A file that cannot be read or has something else in it.</exception>
    public static IReadOnlyList<GivenOption> Resolve(IReadOnlyList<GivenOption> options)
    {
        var all = new List<GivenOption>();
        foreach (GivenOption option in options)
            if (option.Name == "readconfig") all.AddRange(Read(option.Argument!));
            else if (option.Name == "set") Set(all, option.Argument!);
            else all.Add(option);
        return all;
    }

    static List<GivenOption> Read(string path)
    {
        string owner = $"-readconfig {path}";
        string[] lines;
        try
        {
            if (new FileInfo(path) is { Exists: true, Length: > Largest })
                throw new ConfigurationException($"{owner}: the file has more than {Largest} bytes");
            lines = File.ReadAllLines(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"{owner}: {e.Message}", e);
        }
        var found = new List<GivenOption>();
        (string Name, List<string> Values)? group = null;
        for (int i = 0; i < lines.Length; i++)
        {
            string line = lines[i].Trim();
            if (line.Length == 0 || line[0] is '#' or ';') continue;
            if (Group().Match(line) is { Success: true } head)
            {
                Close(found, group);
                group = (NameOf(head.Groups[1].Value, $"{owner}: line {i + 1}"),
                    head.Groups[2] is { Success: true } id ? [$"id={Escaped(id.Value)}"] : []);
            }
            else if (Value().Match(line) is { Success: true } value)
                (group ?? throw new ConfigurationException($"{owner}: line {i + 1}: no group defined: expects "
                    + "[GROUP] or [GROUP \"ID\"] first"))
                    .Values.Add($"{value.Groups[1].Value}={Escaped(value.Groups[2].Value)}");
            else throw new ConfigurationException($"{owner}: line {i + 1}: '{line}' is neither [GROUP], "
                + "[GROUP \"ID\"] nor NAME = \"VALUE\"");
        }
        Close(found, group);
        return found;
    }

    static void Close(List<GivenOption> found, (string Name, List<string> Values)? group)
    {
        if (group is { } done) found.Add(new GivenOption(done.Name, string.Join(',', done.Values)));
    }

    static void Set(List<GivenOption> given, string text)
    {
        if (Assignment().Match(text) is not { Success: true } match)
            throw new ConfigurationException($"-set {text}: expects GROUP.ID.NAME=VALUE, for example "
                + "-set device.net0.mac=52:54:00:12:34:56");
        string group = NameOf(match.Groups[1].Value, $"-set {text}"), id = match.Groups[2].Value;
        int at = given.FindLastIndex(option => option.Name == group && HasId(option.Argument ?? "", id));
        if (at < 0)
            throw new ConfigurationException($"-set {text}: there is no {group} \"{id}\" defined; -{group} …,id={id} "
                + "comes before it");
        given[at] = given[at] with { Argument = $"{given[at].Argument},{match.Groups[3].Value}="
            + Escaped(match.Groups[4].Value) };
    }

    static bool HasId(string argument, string id) => argument.Split(',').Contains($"id={id}");

    static string NameOf(string group, string owner)
    {
        string name = CommandLineOptions.OptionOf(group);
        return OptionCatalogue.All.Any(option => option.Name == name && option.Argument != null
            && CommandLineOptions.GroupOf(name) == group) ? name
            : throw new ConfigurationException($"{owner}: There is no option group '{group}'"
                + Suggestion.For(group, OptionCatalogue.All.Where(option => option.Argument != null)
                    .Select(option => CommandLineOptions.GroupOf(option.Name))));
    }

    /// <summary>In options a comma is written twice.</summary>
    static string Escaped(string value) => value.Replace(",", ",,", StringComparison.Ordinal);

    [GeneratedRegex("^\\[([a-z_-]+)(?:\\s+\"([^\"]*)\")?\\]$")]
    private static partial Regex Group();

    [GeneratedRegex("^([A-Za-z0-9_.-]+)\\s*=\\s*\"([^\"]*)\"$")]
    private static partial Regex Value();

    [GeneratedRegex("^([^.]+)\\.([^.]+)\\.([^=]+)=(.*)$", RegexOptions.Singleline)]
    private static partial Regex Assignment();
}
