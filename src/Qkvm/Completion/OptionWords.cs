using System.Text.RegularExpressions;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Cli;
using Qkvm.Core.Logging;

namespace Qkvm.Completion;

/// <summary>What can stand as an option and in its argument.</summary>
static partial class OptionWords
{
    static readonly string[] s_switch = ["on", "off"];

    /// <summary>Where ids are given that values of a kind name.</summary>
    static readonly Dictionary<PropertyKind, string[]> s_givers = new()
    {
        [PropertyKind.Drive] = ["drive", "blockdev"], [PropertyKind.Node] = ["blockdev"],
        [PropertyKind.Chardev] = ["chardev"], [PropertyKind.Netdev] = ["netdev"], [PropertyKind.Tpmdev] = ["tpmdev"],
        [PropertyKind.Audiodev] = ["audiodev"], [PropertyKind.Object] = ["object"],
    };

    /// <summary>All that are built, with their dash.</summary>
    public static IEnumerable<string> Names =>
        OptionCatalogue.All.Where(option => option.NotYet == null).Select(option => $"-{option.Name}");

    /// <param name="word">With one dash or two.</param>
    public static OptionSpec? Find(string word) => !word.StartsWith('-') ? null
        : OptionCatalogue.All.FirstOrDefault(option => word == $"-{option.Name}" || word == $"--{option.Name}");

    /// <param name="word">The argument as far as it is written.</param>
    /// <param name="all">The command line, for ids.</param>
    public static IEnumerable<string> Complete(OptionSpec option, string word, IReadOnlyList<string> all)
    {
        int comma = word.LastIndexOf(',');
        string before = word[..(comma + 1)], part = word[(comma + 1)..];
        int equals = part.IndexOf('=');
        IEnumerable<string>? values = equals >= 0
            ? ValuesOf(option, before, part[..equals], all)
            : comma < 0 && ModelsOf(option.Name) is { } models ? models : ParametersOf(option, before);
        if (equals >= 0) before += part[..(equals + 1)];
        return values == null ? [Completion.FilesBehind(before)]
            : values.Select(value => before + value).Where(one => one.StartsWith(word, StringComparison.Ordinal))
                .Distinct().Order(StringComparer.Ordinal);
    }

    /// <summary>What the argument begins with; null where that is no name of a catalogue.</summary>
    static IEnumerable<string>? ModelsOf(string option) => option switch
    {
        "machine" or "M" => Catalogue.Machines.Complete(""),
        "accel" => Catalogue.Accelerators.Complete(""),
        "cpu" => CpuModels.All.Select(model => model.Name).Concat(CpuModels.Aliases.Keys).Concat(["host", "max"]),
        "device" => Catalogue.Devices.Complete(""),
        "chardev" => Catalogue.Chardevs.Complete(""),
        "netdev" or "nic" => Catalogue.Netdevs.Complete(""),
        "tpmdev" => Catalogue.Tpms.Complete(""),
        "fsdev" or "virtfs" => Catalogue.FileSystems.Complete(""),
        "audiodev" or "audio" => Catalogue.Audiodevs.Complete(""),
        "object" => Catalogue.Objects.Complete(""),
        "blockdev" => Catalogue.BlockDrivers.Complete(""),
        "display" => Catalogue.Displays.Complete(""),
        "vga" => Catalogue.VideoCards.Select(card => card.Name),
        "usbdevice" => Catalogue.UsbDevices.Select(device => device.Name),
        "d" => LogItems.All.Select(item => item.Name),
        _ => null,
    };

    static Model? ModelOf(string option, string name) => option switch
    {
        "machine" or "M" => Catalogue.Machines.Find(name),
        "accel" => Catalogue.Accelerators.Find(name),
        "device" => Catalogue.Devices.Find(name),
        "chardev" => Catalogue.Chardevs.Find(name),
        "netdev" or "nic" => Catalogue.Netdevs.Find(name),
        "tpmdev" => Catalogue.Tpms.Find(name),
        "fsdev" or "virtfs" => Catalogue.FileSystems.Find(name),
        "audiodev" or "audio" => Catalogue.Audiodevs.Find(name),
        "object" => Catalogue.Objects.Find(name),
        "blockdev" => Catalogue.BlockDrivers.Find(name),
        "display" => Catalogue.Displays.Find(name),
        _ => null,
    };

    /// <summary>Names that are not given yet, each with its equals sign; null: names of files.</summary>
    static IEnumerable<string>? ParametersOf(OptionSpec option, string before)
    {
        if (option.Name == "d") return LogItems.All.Select(item => item.Name);
        string[] names = ModelOf(option.Name, NameIn(before)) is { } model
            ? ["id", .. model.Properties.Where(property => property.Remedy == null).Select(property => property.Name)]
            : [.. Parameter().Matches(option.Argument!).Select(match => match.Groups[1].Value)];
        if (names.Length == 0) return before.Length == 0 ? null : [];
        HashSet<string> given = [.. before.Split(',').Select(part => part.Split('=')[0])];
        return names.Where(name => !given.Contains(name)).Select(name => $"{name}=");
    }

    /// <summary>Null: names of files.</summary>
    static IEnumerable<string>? ValuesOf(OptionSpec option, string before, string name, IReadOnlyList<string> all)
    {
        if (ModelOf(option.Name, NameIn(before)) is { } model)
            return model.Find(name) is not { } property ? [] : property.Kind switch
            {
                PropertyKind.Bool => s_switch,
                PropertyKind.OnOffAuto => [.. s_switch, Property.Auto],
                PropertyKind.Enum => property.Values,
                PropertyKind.Text or PropertyKind.Texts => null,
                _ => s_givers.TryGetValue(property.Kind, out string[]? givers) ? IdsOf(givers, all) : [],
            };
        if (before.Length == 0 && ModelsOf(option.Name) is { } models) return models;  // -device driver=…
        Match choices = Regex.Match(option.Argument!, $@"\b{Regex.Escape(name)}=([a-z0-9-]+(\|[a-z0-9-]+)+)");
        return choices.Success ? choices.Groups[1].Value.Split('|') : null;
    }

    /// <summary>The ids that the command line has given so far.</summary>
    static IEnumerable<string> IdsOf(string[] options, IReadOnlyList<string> all)
    {
        for (int i = 0; i + 1 < all.Count; i++)
            if (Find(all[i]) is { } option && options.Contains(option.Name)
                && Id().Match(all[i + 1]) is { Success: true } id) yield return id.Groups[1].Value;
    }

    static string NameIn(string before)
    {
        string first = before.Split(',')[0];
        return first[(first.IndexOf('=') + 1)..];
    }

    [GeneratedRegex("([a-z][a-z0-9.-]*)=")]
    private static partial Regex Parameter();

    [GeneratedRegex("(?:^|,)(?:id|node-name)=([^,]+)")]
    private static partial Regex Id();
}
