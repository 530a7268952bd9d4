using System.Text.Json;
using Qkvm.Core.Devices;

namespace Qkvm.Core.Block;

/// <summary>What a user said about a block node: a tree of texts, as -blockdev and QMP's blockdev-add give it.</summary>
/// <remarks>Dotted keys nest: <c>file.filename=a.img</c> is <c>filename</c> inside <c>file</c>. A key
/// may have both a text and nested values, as in <c>file=a.img,file.locking=off</c>. Immutable.</remarks>
public sealed class BlockdevOptions
{
    const int MaxDepth = 64;

    readonly Dictionary<string, Value> _values = new(StringComparer.Ordinal);

    public IEnumerable<string> Keys => _values.Keys;

    /// <summary>From <c>key=value</c> pairs in the order of the command line.</summary>
    public static BlockdevOptions FromPairs(IEnumerable<KeyValuePair<string, string>> pairs)
    {
        var options = new BlockdevOptions();
        foreach ((string key, string text) in pairs) options.Put(key, text);
        return options;
    }

    /// <summary>From a JSON object; true and false become on and off.</summary>
    public static BlockdevOptions FromJson(string json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = MaxDepth });
            return document.RootElement.ValueKind == JsonValueKind.Object ? FromJson(document.RootElement)
                : throw new ConfigurationException("JSON options must be an object: {\"driver\": …}");
        }
        catch (JsonException e) { throw new ConfigurationException($"JSON parse error: {e.Message}", e); }
    }

    public static BlockdevOptions FromJson(JsonElement source)
    {
        var options = new BlockdevOptions();
        foreach (JsonProperty property in source.EnumerateObject())
            switch (property.Value.ValueKind)
            {
                case JsonValueKind.Object: options._values[property.Name] = new Value(null, FromJson(property.Value)); break;
                case JsonValueKind.Null: options._values[property.Name] = default; break;
                case JsonValueKind.True: options.Put(property.Name, "on"); break;
                case JsonValueKind.False: options.Put(property.Name, "off"); break;
                case JsonValueKind.String: options.Put(property.Name, property.Value.GetString()!); break;
                case JsonValueKind.Number: options.Put(property.Name, property.Value.GetRawText()); break;
                default: throw new ConfigurationException($"'{property.Name}': a list does not belong here");
            }
        return options;
    }

    /// <summary>A copy with one value set; a null text is JSON's null.</summary>
    public BlockdevOptions With(string key, string? text)
    {
        BlockdevOptions copy = Copy();
        if (text == null) copy._values[key] = default;
        else copy.Put(key, text);
        return copy;
    }

    public BlockdevOptions Without(string key)
    {
        BlockdevOptions copy = Copy();
        copy._values.Remove(key);
        return copy;
    }

    public bool Has(string key) => _values.ContainsKey(key);

    /// <summary>The value as text; null where there is none.</summary>
    public string? Text(string key) => _values.GetValueOrDefault(key).Text;

    public BlockdevOptions? Nested(string key) => _values.GetValueOrDefault(key).Nested;

    /// <summary>The key is there with JSON's null.</summary>
    public bool IsNull(string key) => _values.TryGetValue(key, out Value value) && value is { Text: null, Nested: null };

    /// <summary>on, off, and what QEMU takes for them.</summary>
    public bool Bool(string key, bool otherwise)
    {
        if (!Has(key)) return otherwise;
        return Text(key) switch
        {
            "on" or "yes" or "true" or "y" => true,
            "off" or "no" or "false" or "n" => false,
            string text => throw new ConfigurationException($"Parameter '{key}' expects 'on' or 'off', not '{text}'"),
            null => throw new ConfigurationException($"Parameter '{key}' expects 'on' or 'off'"),
        };
    }

    /// <summary>Bytes, with the suffixes k, M, G, T, P, E.</summary>
    public long? Size(string key)
    {
        if (Text(key) is not { Length: > 0 } text) return null;
        int shift = "bkmgtpe".IndexOf(char.ToLowerInvariant(text[^1])) * 10;
        string digits = shift < 0 ? text : text[..^1];
        if (!Properties.TryParseNumber(digits, out ulong number) || number > (ulong)long.MaxValue >> Math.Max(0, shift))
            throw new ConfigurationException($"Parameter '{key}' expects a size such as 512, 64k or 10G, not '{text}'");
        return (long)number << Math.Max(0, shift);
    }

    BlockdevOptions Copy()
    {
        var copy = new BlockdevOptions();
        foreach ((string key, Value value) in _values) copy._values[key] = value;
        return copy;
    }

    void Put(string key, string text)
    {
        BlockdevOptions at = this;
        int depth = 0;
        for (int dot; (dot = key.IndexOf('.')) > 0; key = key[(dot + 1)..])
        {
            if (++depth > MaxDepth) throw new ConfigurationException("block options nest too deeply");
            string name = key[..dot];
            at._values.TryGetValue(name, out Value value);
            BlockdevOptions nested = value.Nested?.Copy() ?? new BlockdevOptions();
            at._values[name] = value with { Nested = nested };
            at = nested;
        }
        at._values[key] = at._values.GetValueOrDefault(key) with { Text = text };
    }

    readonly record struct Value(string? Text, BlockdevOptions? Nested);
}
