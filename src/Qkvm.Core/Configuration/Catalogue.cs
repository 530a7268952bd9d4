namespace Qkvm.Core.Configuration;

/// <summary>All models of one kind: finding by name, "did you mean", help and completion, written once.</summary>
/// <param name="kind">As messages call it: "network backend".</param>
/// <param name="models">Those that can be made; asked for once, when somebody looks.</param>
/// <param name="missing">Those that users know from QEMU and that are refused; looked at only when a name is not
/// found.</param>
public sealed class Catalogue<TModel>(string kind, Func<TModel[]> models,
    Func<IEnumerable<TModel>>? missing = null) where TModel : Model
{
    readonly Lazy<TModel[]> _models = new(models);

    public Catalogue(string kind, TModel[] models, Func<IEnumerable<TModel>>? missing = null)
        : this(kind, () => models, missing) { }

    /// <summary>Those that can be made.</summary>
    public IReadOnlyList<TModel> Models => _models.Value;

    /// <summary>By name, else by alias; null for none of that name and for what is not built.</summary>
    public TModel? Find(string name) => Array.Find(_models.Value, m => m.Name == name)
        ?? Array.Find(_models.Value, m => m.Has(name));

    /// <summary>As <see cref="Find"/>, and what is not built.</summary>
    public TModel? Known(string name) => Find(name) ?? Missing.FirstOrDefault(m => m.Has(name));

    /// <summary>The model of that name, built or not.</summary>
    /// <param name="owner">The option as typed, for the message.</param>
    /// <exception cref="ConfigurationException">Nobody knows it.</exception>
    public TModel Known(string name, string owner) => Known(name)
        ?? throw new ConfigurationException($"{owner}: '{name}' is not {Article} {kind}{Nearest(name)}");

    /// <summary>The model of that name.</summary>
    /// <exception cref="ConfigurationException">Nobody knows it, or it is not built.</exception>
    public TModel Get(string name, string owner)
    {
        TModel model = Known(name, owner);
        return model.NotBuilt is { } why ? throw new ConfigurationException($"{owner}: '{name}' {why}") : model;
    }

    /// <summary>"; did you mean 'x'?", or nothing where no name is near.</summary>
    public string Nearest(string wrong)
    {
        if (Suggestion.Nearest(wrong, Models.Concat(Missing).SelectMany(m =>
            m.Aliases.Append(m.Name))) is not { } best) return "";
        return $"; did you mean '{best}'{(Known(best)!.NotBuilt != null ? " (not built yet)" : "")}?";
    }

    /// <summary>Names of what can be made that begin so, in order.</summary>
    public IEnumerable<string> Complete(string prefix) =>
        Models.SelectMany(m => m.Aliases.Append(m.Name)).Where(n => n.StartsWith(prefix, StringComparison.Ordinal))
            .Order(StringComparer.Ordinal);

    /// <summary>The list that "help" prints, below a heading.</summary>
    public void WriteHelp(TextWriter output, string heading)
    {
        output.WriteLine(heading);
        foreach (TModel model in Models.OrderBy(m => m.Name, StringComparer.Ordinal)) output.WriteLine(model.HelpLine);
    }

    string Article => "aeiou".Contains(kind[0]) ? "an" : "a";
    IEnumerable<TModel> Missing => missing?.Invoke() ?? [];
}
