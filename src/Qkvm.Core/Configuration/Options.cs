using System.Diagnostics.CodeAnalysis;

namespace Qkvm.Core.Configuration;

/// <summary>What a user said in one option: a tree of named values, and whose they are. <c>a=b,c.d=e</c>, a JSON object
/// and QMP's
/// arguments make the same tree. Whoever understands a value takes it; <see cref="Close"/> refuses what nobody
/// took.</summary>
/// <remarks>A name may have a text and values below it: <c>file=a.img,file.locking=off</c>. Of several texts of one
/// name the last
/// counts; <see cref="Texts"/> gives all. Lists are values below it with the names 0, 1, 2 …; <see cref="List"/> takes
/// them.</remarks>
public sealed partial class Options
{
    sealed class Value
    {
        public string? Text;
        public List<string>? Earlier;                              // texts that a later one replaced, in order
        public Options? Nested;
        public bool IsNull, IsTextTaken, IsNestedTaken;
    }

    readonly OrderedDictionary<string, Value> _values = new(StringComparer.Ordinal);
    readonly HashSet<string> _asked = new(StringComparer.Ordinal);
    readonly Options _root;                                        // whose count of values is everyone's
    readonly string _path;                                         // "" or "file." in front of the names
    int _count;

    /// <param name="owner">The option as typed, for messages: <c>-drive file=a.img</c>.</param>
    public Options(string owner) : this(owner, "", null) { }

    Options(string owner, string path, Options? root) => (Owner, _path, _root) = (owner, path, root ?? this);

    public string Owner { get; }

    /// <summary>What stands in front of the names at this level: "" or "file."; <see cref="Rest"/> has it.</summary>
    public string Path => _path;

    /// <summary>The names at this level, taken or not, in the order of the option.</summary>
    public IEnumerable<string> Names => _values.Keys;

    /// <summary>Whether the user said anything of that name; takes nothing.</summary>
    public bool Has(string name) => _values.ContainsKey(name);

    /// <summary>The last text of that name, or null.</summary>
    public string? Text(string name) => Take(name)?.Text;

    /// <exception cref="ConfigurationException">There is none.</exception>
    public string Required(string name) => Text(name) ?? throw Error($"needs {_path}{name}=");

    /// <summary>Every text of that name, in order.</summary>
    public IReadOnlyList<string> Texts(string name) =>
        Take(name) is not { Text: { } last } value ? [] : value.Earlier is { } earlier ? [.. earlier, last] : [last];

    /// <summary>on, yes, true, y; off, no, false, n. Null where nothing is said.</summary>
    public bool? Bool(string name) => Text(name) is not { } text ? null
        : ParseBool(text) ?? throw Error($"{_path}{name}={text}: expects 'on' or 'off'");

    /// <summary>Decimal or 0x hexadecimal.</summary>
    public long? Number(string name, long min, long max)
    {
        if (Text(name) is not { } text) return null;
        bool isNegative = text.StartsWith('-');
        if (!Properties.TryParseNumber(isNegative ? text[1..] : text, out ulong size) || size > long.MaxValue
            || (isNegative ? -(long)size : (long)size) is var value && (value < min || value > max))
            throw Error($"{_path}{name}={text}: expects a number from {min} to {max}");
        return value;
    }

    /// <summary>As <see cref="Number"/>, for what is counted in an int.</summary>
    public int? Int(string name, int min, int max) => (int?)Number(name, min, max);

    /// <summary>Bytes, with the suffixes b, k, M, G, T, P, E.</summary>
    /// <param name="unit">Bytes that a number without a suffix counts in.</param>
    public long? Size(string name, ulong unit = 1)
    {
        if (Text(name) is not { } text) return null;
        return Sizes.TryParse(text, unit, out ulong bytes) && bytes <= long.MaxValue ? (long)bytes
            : throw Error($"{_path}{name}={text} is not a size; write for example 512M or 2G");
    }

    /// <summary>The values below that name, or null.</summary>
    public Options? Nested(string name)
    {
        _asked.Add(name);
        if (!_values.TryGetValue(name, out Value? value)) return null;
        value.IsNestedTaken = true;
        return value.Nested;
    }

    /// <summary>JSON's null, which is not the same as nothing.</summary>
    public bool IsNull(string name) => Take(name)?.IsNull == true;

    /// <summary>The texts of a list: name.0=, name.1= … or a JSON array.</summary>
    public IReadOnlyList<string> List(string name)
    {
        if (Nested(name) is not { } list) return [];
        var texts = new string[list._values.Count];
        for (int i = 0; i < texts.Length; i++)
            texts[i] = list.Text($"{i}") ?? throw Error($"{_path}{name}.{i} is missing from the list");
        return texts;
    }

    /// <summary>What nobody took yet, flat and in order; takes nothing.</summary>
    public IEnumerable<OptionPair> Rest
    {
        get
        {
            foreach ((string name, Value value) in _values)
            {
                if (!value.IsTextTaken)
                {
                    foreach (string earlier in value.Earlier ?? []) yield return new OptionPair(_path + name, earlier);
                    if (value.Text != null || value.IsNull) yield return new OptionPair(_path + name, value.Text ?? "");
                }
                if (value.Nested is not { } nested) continue;
                if (nested._values.Count == 0 && !value.IsNestedTaken) yield return OptionPair.Empty(_path + name);
                foreach (OptionPair pair in nested.Rest) yield return pair;
            }
        }
    }

    /// <summary>All that was said, taken or not, flat and in order; takes nothing. JSON's null is an empty text.
    /// Names count from here.</summary>
    public IEnumerable<OptionPair> All
    {
        get
        {
            foreach ((string name, Value value) in _values)
            {
                if (value.Text != null || value.IsNull) yield return new OptionPair(name, value.Text ?? "");
                if (value.Nested is not { } nested) continue;
                if (nested._values.Count == 0) yield return OptionPair.Empty(name);
                foreach (OptionPair pair in nested.All) yield return pair with { Name = $"{name}.{pair.Name}" };
            }
        }
    }

    /// <summary>Refuses what nobody took, with the nearest name that somebody asked for.</summary>
    public void Close()
    {
        foreach ((string name, Value value) in _values)
        {
            bool isUnknown = value.Text != null || value.IsNull ? !value.IsTextTaken : !value.IsNestedTaken;
            if (isUnknown) ThrowUnknown(name);
            // Below a name that nobody asked for, everything is unknown.
            value.Nested?.Close();
        }
    }

    /// <summary>Adds a value as if the user had typed it after the others; dots in the name nest.</summary>
    public void Add(string name, string text) => Put(name, text);

    /// <summary>An error about this option: whose it is, then the message.</summary>
    public ConfigurationException Error(string message, Exception? inner = null) => new($"{Owner}: {message}", inner);

    [DoesNotReturn]
    void ThrowUnknown(string name)
    {
        Value value = _values[name];
        string shown = value is { Text: null, Nested: { } nested } && nested._values.Count > 0
            ? $"{name}.{nested._values.GetAt(0).Key}" : name;
        string near = Suggestion.For(name, _asked.Where(n => !_values.ContainsKey(n)));
        throw Error($"invalid parameter '{_path}{shown}'{near}");
    }

    Value? Take(string name)
    {
        _asked.Add(name);
        if (!_values.TryGetValue(name, out Value? value)) return null;
        value.IsTextTaken = true;
        return value;
    }

    /// <summary>Null for neither.</summary>
    public static bool? ParseBool(string text) => text switch
    {
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        _ => null,
    };
}
