using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>Makes a command's record of a JSON object; what does not fit is refused with QEMU's words.</summary>
static class ArgumentReader
{
    public static T Read<T>(JsonElement given, JsonTypeInfo<T> type) where T : class
    {
        if (given.ValueKind == JsonValueKind.Undefined)
        {
            if (type.Properties.FirstOrDefault(p => p.IsRequired) is { } missing) throw Missing(missing.Name);
            using JsonDocument empty = JsonDocument.Parse("{}");
            return JsonSerializer.Deserialize(empty.RootElement, type)!;
        }
        Check(given, type, "");
        try { return JsonSerializer.Deserialize(given, type)!; }
        catch (JsonException e)
        {
            // a kind of value that Check does not know
            string path = e.Path?.TrimStart('$', '.') ?? "";
            throw new CommandException(given.TryGetProperty(path, out JsonElement value)
                && value.ValueKind == JsonValueKind.String
                    ? $"Parameter '{path}' does not accept value '{value.GetString()}'" : $"Invalid parameter '{path}'",
                inner: e);
        }
    }

    /// <summary>Members that are unknown, absent or of another type, at any depth.</summary>
    static void Check(JsonElement given, JsonTypeInfo type, string path)
    {
        JsonSerializerOptions json = type.Options;
        if (type.Kind == JsonTypeInfoKind.Enumerable && type.ElementType is { } element)
        {
            if (given.ValueKind != JsonValueKind.Array) throw WrongType(path, "array");
            int i = 0;
            foreach (JsonElement one in given.EnumerateArray()) Check(one, json.GetTypeInfo(element), $"{path}[{i++}]");
        }
        else if (type.Kind == JsonTypeInfoKind.Object)
        {
            if (given.ValueKind != JsonValueKind.Object) throw WrongType(path, "object");
            foreach (JsonProperty member in given.EnumerateObject())
            {
                JsonPropertyInfo known = type.Properties.FirstOrDefault(p => p.Name == member.Name)
                    ?? throw new CommandException($"Parameter '{Join(path, member.Name)}' is unexpected");
                Check(member.Value, json.GetTypeInfo(known.PropertyType), Join(path, member.Name));
            }
            foreach (JsonPropertyInfo known in type.Properties)
                if (known.IsRequired && !given.TryGetProperty(known.Name, out _)) throw Missing(Join(path, known.Name));
        }
        else CheckScalar(given, Nullable.GetUnderlyingType(type.Type) ?? type.Type, path);
    }

    static void CheckScalar(JsonElement given, Type type, string path)
    {
        if (type == typeof(JsonElement) || type.IsAssignableTo(typeof(JsonNode))) return;
        if (type == typeof(bool))
        {
            if (given.ValueKind is not (JsonValueKind.True or JsonValueKind.False)) throw WrongType(path, "boolean");
        }
        else if (type == typeof(string) || type.IsEnum)
        {
            if (given.ValueKind != JsonValueKind.String) throw WrongType(path, "string");
        }
        else if (type == typeof(double))
        {
            if (given.ValueKind != JsonValueKind.Number) throw WrongType(path, "number");
        }
        else if (given.ValueKind != JsonValueKind.Number || !(given.TryGetInt64(out _) || given.TryGetUInt64(out _)))
            throw WrongType(path, "integer");
    }

    static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";

    static CommandException Missing(string path) => new($"Parameter '{path}' is missing");

    static CommandException WrongType(string path, string expected) =>
        new($"Invalid parameter type for '{path}', expected: {expected}");
}
