namespace Qkvm.Core.Configuration;

/// <summary>A thing that users name in an option: what its catalogue lists. Option parsing, help, "did you mean" and
/// schema read it.</summary>
/// <param name="Name">QEMU's name.</param>
/// <param name="Properties">All that the option takes.</param>
public abstract record Model(string Name, Property[] Properties)
{
    public string Description { get; init; } = "";

    /// <summary>Other names for the same, such as virtio-blk for virtio-blk-pci.</summary>
    public string[] Aliases { get; init; } = [];

    /// <summary>Known to users, but not here: what to say, as in "is not built yet; use tap". Null for what can be
    /// made.</summary>
    public string? NotBuilt { get; init; }

    public Property? Find(string property) => Array.Find(Properties, p => p.Name == property);

    public bool Has(string name) => Name == name || Array.IndexOf(Aliases, name) >= 0;

    /// <summary>Its line in the list of its kind.</summary>
    public virtual string HelpLine => Description.Length == 0 ? Name : $"{Name,-20} {Description}";

    /// <summary>NAME,help: the properties with kinds, meanings and defaults.</summary>
    public void WriteHelp(TextWriter output)
    {
        output.WriteLine($"{Name} options:");
        foreach (Property property in Properties.OrderBy(p => p.Name, StringComparer.Ordinal))
        {
            string help = property.Help.Length > 0 ? $" - {property.Help}" : "";
            string fallback = property.Default is { } value ? $" (default: {value})" : "";
            output.WriteLine($"  {$"{property.Name}=<{property.KindText}>",-32}{help}{fallback}");
        }
    }
}

/// <summary>A model that makes a T for a host: a device for a board, a character device for the backends …</summary>
public abstract record Model<THost, T>(string Name, Property[] Properties, Func<Properties, THost, T> Create)
    : Model(Name, Properties);
