using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qkvm.Img;

/// <summary>JSON as QEMU prints it: indented by four, members in the order of its hash tables.</summary>
static class JsonText
{
    const int Indent = 4;

    public static string Of(JsonNode node)
    {
        var text = new StringBuilder();
        Append(text, node, Indent);
        return text.Append('\n').ToString();
    }

    /// <summary>The members in QEMU's order: of the hash that tdb (Samba's trivial database) uses, modulo 512; what
    /// came last stands first among those that are alike.</summary>
    public static IEnumerable<KeyValuePair<string, JsonNode?>> Ordered(JsonObject members) =>
        members.Reverse().OrderBy(member => Bucket(member.Key));

    /// <summary>The same, all the way down.</summary>
    public static JsonNode? Ordered(JsonNode? node) => node switch
    {
        JsonObject members => new JsonObject(Ordered(members)
            .Select(member => KeyValuePair.Create(member.Key, Ordered(member.Value)))),
        JsonArray items => new JsonArray([.. items.Select(Ordered)]),
        _ => node?.DeepClone(),
    };

    static uint Bucket(string name)
    {
        const uint buckets = 512;
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        uint hash = 0x238F13AF * (uint)bytes.Length;
        for (int i = 0; i < bytes.Length; i++) hash += (uint)bytes[i] << (i * 5 % 24);
        return (1103515243 * hash + 12345) % buckets;
    }

    static void Append(StringBuilder text, JsonNode? node, int depth)
    {
        switch (node)
        {
            case JsonObject { Count: > 0 } members:
                Append(text, '{', '}', Ordered(members), depth, static (text, member, depth) =>
                {
                    AppendString(text, member.Key);
                    text.Append(": ");
                    Append(text, member.Value, depth);
                });
                break;
            case JsonArray { Count: > 0 } items:
                Append(text, '[', ']', items, depth, static (text, item, depth) => Append(text, item, depth));
                break;
            case JsonObject: text.Append("{\n").Append(' ', depth - Indent).Append('}'); break;
            case JsonArray: text.Append("[\n").Append(' ', depth - Indent).Append(']'); break;
            case JsonValue value when value.GetValueKind() == JsonValueKind.String:
                AppendString(text, value.GetValue<string>());
                break;
            case null: text.Append("null"); break;
            default: text.Append(node.ToJsonString()); break;
        }
    }

    static void Append<T>(StringBuilder text, char open, char close, IEnumerable<T> items, int depth,
        Action<StringBuilder, T, int> append)
    {
        text.Append(open);
        string separator = "\n";
        foreach (T item in items)
        {
            text.Append(separator).Append(' ', depth);
            append(text, item, depth + Indent);
            separator = ",\n";
        }
        text.Append('\n').Append(' ', depth - Indent).Append(close);
    }

    /// <summary>ASCII alone.</summary>
    static void AppendString(StringBuilder text, string value)
    {
        text.Append('"');
        foreach (char c in value)
            text.Append(c switch
            {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\b' => "\\b",
                '\f' => "\\f",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                < ' ' or >= '\x7F' => $"\\u{(int)c:X4}",
                _ => c.ToString(),
            });
        text.Append('"');
    }
}
