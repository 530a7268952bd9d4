using System.Text.Json;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>The argument of an option: <c>value,key=value,flag,noflag</c> with ",," for a comma, or a JSON object whose
/// nested members become dotted keys.</summary>
public sealed class KeyValueList
{
    readonly List<OptionPair> _pairs = [];
    readonly HashSet<string> _taken = new(StringComparer.Ordinal);

    /// <param name="owner">For messages: "-drive file=x".</param>
    /// <param name="implied">The key of a first value without one, or null.</param>
    public KeyValueList(string text, string owner, string? implied = null)
    {
        Owner = owner;
        if (text.StartsWith('{')) ParseJson(text);
        else ParsePairs(text, implied);
    }

    public string Owner { get; }
    public IReadOnlyList<OptionPair> Pairs => _pairs;

    /// <summary>"help" or "?" was asked for.</summary>
    public bool WantsHelp => _pairs.Exists(p => p.Name is "help" or "?" || p.Value is "help" or "?");

    /// <summary>The last value of a key, or null; marks the key as understood.</summary>
    public string? Take(string name)
    {
        _taken.Add(name);
        string? value = null;
        foreach (OptionPair pair in _pairs)
            if (pair.Name == name) value = pair.Value;
        return value;
    }

    public bool? TakeBool(string name) => Take(name) switch
    {
        null => null,
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        string other => throw new ConfigurationException($"{Owner}: {name}={other}: expects 'on' or 'off'"),
    };

    public int? TakeInt(string name, int min, int max)
    {
        if (Take(name) is not { } text) return null;
        if (!Properties.TryParseNumber(text, out ulong value) || value > (ulong)max || (int)value < min)
            throw new ConfigurationException($"{Owner}: {name}={text}: expects a number from {min} to {max}");
        return (int)value;
    }

    /// <summary>What was not taken, in order.</summary>
    public IReadOnlyList<OptionPair> Rest => [.. _pairs.Where(p => !_taken.Contains(p.Name))];

    /// <summary>Refuses keys that nobody took.</summary>
    public void Close(params string[] alsoKnown)
    {
        foreach (OptionPair pair in _pairs)
            if (!_taken.Contains(pair.Name) && Array.IndexOf(alsoKnown, pair.Name) < 0)
                throw new ConfigurationException($"{Owner}: invalid parameter '{pair.Name}'{Suggestion.For(pair.Name, _taken.Concat(alsoKnown))}");
    }

    void ParsePairs(string text, string? implied)
    {
        int at = 0;
        bool first = true;
        while (at < text.Length || (first && implied != null))
        {
            string item = CommaList.Next(text, ref at, out int equals);
            if (equals >= 0) _pairs.Add(new OptionPair(item[..equals], item[(equals + 1)..]));
            else if (first && implied != null) _pairs.Add(new OptionPair(implied, item));
            else if (item is "help" or "?") _pairs.Add(new OptionPair(item, "on"));
            else if (item.StartsWith("no", StringComparison.Ordinal) && item.Length > 2) _pairs.Add(new OptionPair(item[2..], "off"));
            else if (item.Length > 0) _pairs.Add(new OptionPair(item, "on"));
            first = false;
        }
    }

    void ParseJson(string text)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(text);
            Flatten("", document.RootElement);
        }
        catch (JsonException e)
        {
            throw new ConfigurationException($"{Owner}: not valid JSON: {e.Message}", e);
        }
    }

    void Flatten(string name, JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                foreach (JsonProperty member in element.EnumerateObject()) Flatten(name.Length == 0 ? member.Name : $"{name}.{member.Name}", member.Value);
                break;
            case JsonValueKind.Array:
                int i = 0;
                foreach (JsonElement member in element.EnumerateArray()) Flatten($"{name}.{i++}", member);
                break;
            case JsonValueKind.True: _pairs.Add(new OptionPair(name, "on")); break;
            case JsonValueKind.False: _pairs.Add(new OptionPair(name, "off")); break;
            case JsonValueKind.Null: _pairs.Add(new OptionPair(name, "")); break;
            default: _pairs.Add(new OptionPair(name, element.ToString())); break;
        }
    }
}
