using System.Globalization;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>The models that -cpu names.</summary>
public static class CpuModels
{
    /// <summary>Identity of "max" and "host".</summary>
    const string Default = "qemu64", FirstVersion = "-v1";

    /// <summary>All that the software CPU can do, with QEMU's identity of it.</summary>
    internal static CpuModel Max { get; } =
        new("max", CpuModel.Amd, "QEMU TCG CPU version 2.5+", 15, 107, 1, 0xd, 0x80000008u);

    static readonly Lazy<IReadOnlyList<CpuModel>> s_all = new(() => [.. Parse(CpuModelTable.Models), Max,
        new CpuModel("base", CpuModel.Amd, "", 6, 6, 3, 1, 0)]);

    static readonly Lazy<IReadOnlyDictionary<string, string>> s_aliases = new(MakeAliases);

    /// <summary>By their versioned names, and "max" and "base".</summary>
    public static IReadOnlyList<CpuModel> All => s_all.Value;

    /// <summary>What else models are called, and which is meant.</summary>
    public static IReadOnlyDictionary<string, string> Aliases => s_aliases.Value;

    /// <summary>-cpu help.</summary>
    public static string Help()
    {
        var text = new System.Text.StringBuilder("Available CPUs:\n");
        IEnumerable<(string Name, string Text)> lines =
            [.. All.Where(model => !s_last.ContainsKey(model.Name)).Select(model => (model.Name, Describe(model))),
            .. Aliases.Where(alias => !s_last.ContainsKey(alias.Key)).Select(alias => (alias.Key,
                alias.Value == alias.Key + FirstVersion ? "(alias configured by machine type)"
                : $"(alias of {alias.Value})"))];
        foreach (var (name, description) in lines.OrderBy(line => line.Name, StringComparer.Ordinal)
            .Concat(s_last.Select(last => (last.Key, last.Value))))
            text.Append(Line(name, description));
        text.Append("\nRecognized CPUID flags:\n");
        int column = 0;
        foreach (string name in CpuFeatures.AllAndAbsent())
        {
            if (column > 0 && column + name.Length + 1 > 75) { text.Append('\n'); column = 0; }
            text.Append(column == 0 ? "  " : " ").Append(name);
            column += name.Length + (column == 0 ? 2 : 1);
        }
        return text.Append('\n').ToString();
    }

    static string Line(string name, string description) => $"x86 {name,-20}  {description}\n";

    /// <summary>Those that are no processor's stand last.</summary>
    static readonly Dictionary<string, string> s_last = new()
    {
        ["base"] = "base CPU model type with no features enabled",
        ["host"] = "processor with all supported host features ",
        ["max"] = "Enables all features supported by the accelerator in the current host",
    };

    static string Describe(CpuModel model)
    {
        string? note = CpuModelTable.Notes.Split('\n')
            .FirstOrDefault(line => line.StartsWith(model.Name + ": ", StringComparison.Ordinal));
        return note == null ? model.Text : $"{model.Text} [{note[(model.Name.Length + 2)..]}]";
    }

    /// <summary>Null: there is none of this name.</summary>
    public static CpuModel? Find(string name)
    {
        if (Aliases.TryGetValue(name, out string? meant)) name = meant;
        return All.FirstOrDefault(model => model.Name == name);
    }

    /// <summary>What one vCPU shows, or a <see cref="ConfigurationException"/> that names -cpu.</summary>
    public static Cpuid Resolve(CpuSetup setup) => Resolve(setup, CpuHost.Software());

    internal static Cpuid Resolve(CpuSetup setup, CpuHost host)
    {
        string name = setup.Model.Length == 0 ? Default : setup.Model;
        CpuModel model = Find(name)
            ?? throw new ConfigurationException("-cpu: unable to find CPU model " +
            $"'{name}'{Suggest(name, [.. All.Select(m => m.Name), .. Aliases.Keys])}; -cpu help lists them");
        return new CpuOptions(name, model == Max ? host.Max : model, host).Resolve(setup);
    }

    /// <summary>The nearest known word, as a question; nothing if none is near.</summary>
    internal static string Suggest(string wrong, IEnumerable<string> known)
    {
        string? best = known.MinBy(candidate => Distance(wrong.ToLowerInvariant(), candidate.ToLowerInvariant()));
        return best != null && Distance(wrong.ToLowerInvariant(), best.ToLowerInvariant())
            <= Math.Max(1, wrong.Length / 3) ? $", did you mean '{best}'?" : "";
    }

    /// <summary>Levenshtein's.</summary>
    static int Distance(string a, string b)
    {
        var row = new int[b.Length + 1];
        for (int j = 0; j <= b.Length; j++) row[j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int above = row[j];
                row[j] = Math.Min(Math.Min(above, row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
                diagonal = above;
            }
        }
        return row[b.Length];
    }

    static Dictionary<string, string> MakeAliases()
    {
        var aliases = new Dictionary<string, string> { ["host"] = "max" };
        foreach (CpuModel model in All)
            if (model.Name.EndsWith(FirstVersion, StringComparison.Ordinal))
                aliases.Add(model.Name[..^FirstVersion.Length], model.Name);
        foreach (string line in CpuModelTable.Aliases.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            aliases.Add(line[..line.IndexOf(':')], line[(line.IndexOf(':') + 2)..]);
        return aliases;
    }

    /// <summary>The table's form is described there.</summary>
    static List<CpuModel> Parse(string table)
    {
        var models = new List<CpuModel>();
        string[] lines = table.Split('\n');
        for (int i = 0; i < lines.Length;)
        {
            string head = lines[i++];
            int first = i;
            while (i < lines.Length && lines[i].StartsWith(' ')) i++;
            string[] features = lines[first..i];
            const int fields = 5;
            string[] identity =
                head[(head.IndexOf(':') + 1)..].Split(',', fields, StringSplitOptions.TrimEntries);
            string[] version = identity[1].Split('.');
            models.Add(new CpuModel(head[..head.IndexOf(':')], identity[0], identity[4], Number(version[0]),
                Number(version[1]), Number(version[2]), Convert.ToUInt32(identity[2], 16),
                Convert.ToUInt32(identity[3], 16), () => Features(features, models)));
        }
        return models;

        static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
    }

    static string Features(string[] lines, List<CpuModel> known)
    {
        string[] words = string.Concat(lines).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words[0] != "=") return string.Join(' ', words);
        List<string> features = [.. known.Find(model => model.Name == words[1])!.Features.Split(' ')];
        foreach (string word in words.Skip(2))
            if (word[0] == '+') features.Add(word[1..]);
            else features.Remove(word[1..]);
        return string.Join(' ', features);
    }
}
