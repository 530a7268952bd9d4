using System.Text.Json;
using System.Text.Json.Serialization;

namespace Qkvm.Control.Schema;

/// <summary>Writes "default": null for optional members, which a null that is left out cannot say.</summary>
sealed class SchemaMemberConverter : JsonConverter<SchemaMember>
{
    public override SchemaMember Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
        throw new NotSupportedException("the schema is only written");

    public override void Write(Utf8JsonWriter writer, SchemaMember value, JsonSerializerOptions options)
    {
        writer.WriteStartObject();
        writer.WriteString("name", value.Name);
        if (value.IsOptional) writer.WriteNull("default");
        writer.WriteString("type", value.Type);
        writer.WriteEndObject();
    }
}
