using System.Text.RegularExpressions;
using Qkvm.Control.Commands;
using Qkvm.Core.Configuration;

namespace Qkvm.Cli;

/// <summary>What query-command-line-options tells: the options that work, with the parameters that their help
/// names; of -machine what the machines take, if only the value that means "without".</summary>
static partial class CommandLineOptions
{
    /// <summary>QEMU's names of groups, where they are not the option's.</summary>
    static readonly Dictionary<string, string> s_groups = new()
    {
        ["boot"] = "boot-opts", ["smp"] = "smp-opts", ["m"] = "memory",
    };

    public static IReadOnlyList<CommandLineOptionInfo> All =>
        [.. OptionCatalogue.All.Where(option => option is { NotYet: null, Argument: not null })
            .Select(option => new CommandLineOptionInfo(GroupOf(option.Name), ParametersOf(option)))];

    public static string GroupOf(string option) => s_groups.GetValueOrDefault(option, option);

    /// <summary>The option of a group; the same name for one that nobody knows.</summary>
    public static string OptionOf(string group) =>
        s_groups.Where(pair => pair.Value == group).Select(pair => pair.Key).FirstOrDefault(group);

    static IReadOnlyList<CommandLineParameterInfo> ParametersOf(OptionSpec option) => option.Name == "machine"
        ? [.. Catalogue.Machines.Models.SelectMany(model => model.Properties)
            .Where(property => property.Remedy == null || property.Default != null)
            .DistinctBy(property => property.Name)
            .Select(property => new CommandLineParameterInfo(property.Name, property.Kind switch
            {
                PropertyKind.Bool => "boolean", PropertyKind.Number => "number", PropertyKind.Size => "size",
                _ => "string",
            }))]
        : [.. Name().Matches(option.Argument!).Select(match => match.Groups[1].Value).Distinct()
            .Select(name => new CommandLineParameterInfo(name, "string"))];

    [GeneratedRegex("([a-z][a-z0-9-]*)=")]
    private static partial Regex Name();
}
