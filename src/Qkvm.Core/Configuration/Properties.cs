using System.Globalization;

namespace Qkvm.Core.Configuration;

/// <summary>Property values, checked against a model: every declared property answers.</summary>
public sealed class Properties
{
    readonly Dictionary<string, string?> _values = new(StringComparer.Ordinal);
    readonly Dictionary<string, Options> _trees = new(StringComparer.Ordinal);
    readonly Dictionary<string, IReadOnlyList<string>> _lists = new(StringComparer.Ordinal);

    /// <summary>Takes what a model declares out of the options and refuses the rest.</summary>
    /// <param name="defaults">-global's values, stronger than the model's defaults: name, value and owner.</param>
    /// <exception cref="ConfigurationException">A value of the wrong kind, or a name that the model does not
    /// declare.</exception>
    public Properties(Model model, Options options, params IEnumerable<(string Name, string Value,
        string Owner)> defaults)
    {
        Owner = options.Owner;
        foreach (Property property in model.Properties) _values[property.Name] = property.Default;
        foreach ((string name, string value, string owner) in defaults)
            _values[name] = (model.Find(name) ?? throw new ConfigurationException($"{owner}: {NotFound(model, name)}"))
                .Checked(value, owner);
        foreach (Property property in model.Properties)
        {
            if (property.Kind == PropertyKind.Texts)
            {
                _lists[property.Name] = [.. options.Texts(property.Name), .. Items(options, property.Name)];
                continue;
            }
            bool nests = property.Kind is PropertyKind.Node or PropertyKind.Tree;
            if (nests && options.Nested(property.Name) is { } below) _trees[property.Name] = below;
            if (property.Kind != PropertyKind.Tree && Text(options, property.Name) is { } text)
                _values[property.Name] = property.Checked(text, Owner);
            else if (property.Kind == PropertyKind.Node && options.IsNull(property.Name)) _values[property.Name] = "";
        }
        foreach (OptionPair rest in options.Rest)
        {
            string name = rest.Name[options.Path.Length..].Split('.')[0];
            if (!_trees.ContainsKey(name)) throw options.Error(model.Find(name)?.Kind == PropertyKind.Tree
                ? $"Invalid parameter type for '{name}', expected: object" : NotFound(model, rest.Name));
        }
    }

    /// <summary>The text of a name, which may have dots: "out.frequency".</summary>
    static string? Text(Options options, string name)
    {
        int dot = name.IndexOf('.');
        return dot < 0 ? options.Text(name)
            : options.Nested(name[..dot]) is { } below ? Text(below, name[(dot + 1)..]) : null;
    }

    /// <summary>A list as QMP and JSON have it: of texts, or of objects with a text each, which QAPI calls
    /// String.</summary>
    static IEnumerable<string> Items(Options options, string name)
    {
        if (options.Nested(name) is not { } list) return [];
        return list.Names.Select(item => list.Text(item) ?? list.Nested(item)?.Text("str")
            ?? throw options.Error($"{name}.{item} is no text"));
    }

    static string NotFound(Model model, string name) =>
        $"Property '{model.Name}.{name}' not found{Suggestion.For(name, model.Properties.Select(p => p.Name))}";

    /// <summary>Whose these are, for messages: <c>-device virtio-net-pci,id=net0</c>.</summary>
    public string Owner { get; }

    /// <summary>The value as text, or null where neither user nor model gives one.</summary>
    public string? Text(string name) => _values.TryGetValue(name, out string? value) ? value
        : throw new InvalidOperationException($"{Owner}: the model declares no property '{name}'");

    /// <summary>All texts of that name, in the order of the option.</summary>
    public IReadOnlyList<string> Texts(string name) => _lists.TryGetValue(name, out IReadOnlyList<string>? list) ? list
        : throw new InvalidOperationException($"{Owner}: the model declares no list '{name}'");

    /// <exception cref="ConfigurationException">Neither user nor model gives one.</exception>
    public string Required(string name) => Text(name) ?? throw Error($"needs {name}=");

    public bool Has(string name) => _values.TryGetValue(name, out string? value) && value != null;

    /// <summary>What lies below the name: a node's own options, or null.</summary>
    public Options? Tree(string name) => _trees.GetValueOrDefault(name);

    public ulong Number(string name) => NumberOrAuto(name)
        ?? throw new InvalidOperationException($"{Owner}: {name} is automatic");

    /// <summary>Null for auto, and where nobody gives one.</summary>
    public ulong? NumberOrAuto(string name) =>
        Text(name) is { } text and not Property.Auto ? ulong.Parse(text, NumberStyles.None,
            CultureInfo.InvariantCulture) : null;

    /// <summary>Bytes.</summary>
    public ulong Size(string name) => Number(name);

    public bool Bool(string name) => Text(name) == "on";

    /// <summary>Null for auto.</summary>
    public bool? OnOffAuto(string name) => Text(name) is null or Property.Auto ? null : Bool(name);

    /// <summary>An error about these: whose they are, then the message.</summary>
    public ConfigurationException Error(string message, Exception? inner = null) => new($"{Owner}: {message}", inner);

    /// <summary>All that have a value, as `info qtree` shows them.</summary>
    public IReadOnlyList<OptionPair> Shown => [.. _values.Where(v => v.Value != null)
        .Select(v => new OptionPair(v.Key, v.Value!))];

    /// <summary>Decimal or 0x hexadecimal.</summary>
    public static bool TryParseNumber(string? text, out ulong value)
    {
        value = 0;
        if (string.IsNullOrEmpty(text)) return false;
        if (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
            return ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, null, out value);
        return ulong.TryParse(text, NumberStyles.None, null, out value);
    }
}
