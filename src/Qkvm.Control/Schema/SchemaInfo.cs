using System.Text.Json.Serialization;

namespace Qkvm.Control.Schema;

/// <summary>An entry of query-qmp-schema: one object whose members depend on <see cref="MetaType"/>, as QEMU's manual
/// ("QMP introspection") lists them.</summary>
/// <param name="MetaType">"builtin", "enum", "array", "object", "command", "event".</param>
public sealed record SchemaInfo(string Name, string MetaType)
{
    public string? JsonType { get; init; }
    public string? ElementType { get; init; }
    public IReadOnlyList<string>? Values { get; init; }
    public IReadOnlyList<SchemaMember>? Members { get; init; }

    /// <summary>The member whose value chooses among the variants.</summary>
    public string? Tag { get; init; }
    public IReadOnlyList<SchemaVariant>? Variants { get; init; }
    public string? ArgType { get; init; }
    public string? RetType { get; init; }
    public bool? AllowOob { get; init; }
}

/// <param name="Default">Present, as null, where the member is optional.</param>
[JsonConverter(typeof(SchemaMemberConverter))]
public sealed record SchemaMember(string Name, string Type, bool IsOptional);

public sealed record SchemaVariant(string Case, string Type);
