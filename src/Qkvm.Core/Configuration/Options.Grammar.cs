using System.Text;
using System.Text.Json;

namespace Qkvm.Core.Configuration;

/// <summary>How users write options. Everything is bounded: depth, and values in all.</summary>
public sealed partial class Options
{
    /// <summary>Most levels of nesting and most values of one option.</summary>
    public const int MaxDepth = 64, MaxValues = 65_536;

    /// <summary><c>value,key=value,flag,noflag</c> with ",," for a comma, or a JSON object.</summary>
    /// <param name="implied">The name of a first value without one, or null.</param>
    /// <exception cref="ConfigurationException">Bad JSON, or more than the bounds.</exception>
    public static Options Parse(string text, string owner, string? implied = null)
    {
        if (text.StartsWith('{')) return ParseJson(text, owner);
        var options = new Options(owner);
        int at = 0;
        bool isFirst = true;
        while (at < text.Length || (isFirst && implied != null))
        {
            string item = CommaList.Next(text, ref at, out int equals);
            if (equals >= 0) options.Put(item[..equals], item[(equals + 1)..]);
            else if (isFirst && implied != null) options.Put(implied, item);
            else if (item is "help" or "?") options.Put(item, "on");
            else if (item.StartsWith("no", StringComparison.Ordinal) && item.Length > 2) options.Put(item[2..], "off");
            else if (item.Length > 0) options.Put(item, "on");
            isFirst = false;
        }
        return options;
    }

    /// <summary>A JSON object; true and false become on and off, numbers keep their digits. Strings may stand in single
    /// quotes, as QEMU takes them.</summary>
    public static Options ParseJson(string json, string owner)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(InDoubleQuotes(json),
                new JsonDocumentOptions { MaxDepth = MaxDepth });
            return From(document.RootElement, owner);
        }
        catch (JsonException e) { throw new ConfigurationException($"{owner}: not valid JSON: {e.Message}", e); }
    }

    static string InDoubleQuotes(string json)
    {
        if (!json.Contains('\'')) return json;
        var text = new StringBuilder(json.Length);
        char quote = '\0';
        for (int i = 0; i < json.Length; i++)
        {
            char c = json[i];
            bool isEscape = quote != '\0' && c == '\\' && i + 1 < json.Length;
            if (isEscape && json[i + 1] == '\'') text.Append(json[++i]);
            else if (isEscape) text.Append(c).Append(json[++i]);
            else if (quote == '\0' ? c is '"' or '\'' : c == quote)
            {
                quote = quote == '\0' ? c : '\0';
                text.Append('"');
            }
            else text.Append(c == '"' ? "\\\"" : c.ToString());
        }
        return text.ToString();
    }

    /// <summary>The arguments of a QMP command.</summary>
    public static Options From(JsonElement source, string owner)
    {
        var options = new Options(owner);
        if (source.ValueKind != JsonValueKind.Object) throw options.Error("JSON options must be an object: "
            + "{\"name\": value, …}");
        foreach (JsonProperty member in source.EnumerateObject()) options.Put(member.Name, member.Value, 1);
        return options;
    }

    public static Options Of(string owner, IEnumerable<OptionPair> pairs)
    {
        var options = new Options(owner);
        foreach (OptionPair pair in pairs)
            if (pair.IsEmpty) options.PlaceOf(pair.Name, out string last).Below(last);
            else options.Put(pair.Name, pair.Value);
        return options;
    }

    public static Options Of(string owner, params OptionPair[] pairs) => Of(owner, (IEnumerable<OptionPair>)pairs);

    void Put(string name, string text)
    {
        Value value = PlaceOf(name, out string last).At(last);
        if (value.Text is { } earlier) (value.Earlier ??= []).Add(earlier);
        (value.Text, value.IsNull) = (text, false);
    }

    /// <summary>Dots nest, but none at an end: those stay part of the name, and nobody takes it.</summary>
    Options PlaceOf(string name, out string last)
    {
        Options at = this;
        int depth = 0;
        for (int dot; (dot = name.IndexOf('.')) > 0 && dot < name.Length - 1; name = name[(dot + 1)..])
        {
            if (++depth > MaxDepth) throw Error($"nests deeper than {MaxDepth} levels");
            at = at.Below(name[..dot]);
        }
        last = name;
        return at;
    }

    void Put(string name, JsonElement element, int depth)
    {
        if (depth > MaxDepth) throw Error($"nests deeper than {MaxDepth} levels");
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                Options members = Below(name);
                foreach (JsonProperty member in element.EnumerateObject()) members.Put(member.Name, member.Value, depth
                    + 1);
                break;
            case JsonValueKind.Array:
                Options items = Below(name);
                int i = 0;
                foreach (JsonElement item in element.EnumerateArray()) items.Put($"{i++}", item, depth + 1);
                break;
            case JsonValueKind.Null: At(name).IsNull = true; break;
            case JsonValueKind.True: Put(name, "on"); break;
            case JsonValueKind.False: Put(name, "off"); break;
            case JsonValueKind.String: Put(name, element.GetString()!); break;
            default: Put(name, element.GetRawText()); break;
        }
    }

    Options Below(string name) => At(name).Nested ??= new Options(Owner, $"{_path}{name}.", _root);

    Value At(string name)
    {
        if (++_root._count > MaxValues) throw Error($"has more than {MaxValues} values");
        if (_values.TryGetValue(name, out Value? value)) return value;
        _values.Add(name, value = new Value());
        return value;
    }
}
