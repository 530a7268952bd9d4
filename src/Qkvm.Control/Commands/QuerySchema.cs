using System.Text.Json.Serialization;
using Qkvm.Control.Schema;

namespace Qkvm.Control.Commands;

/// <summary>query-qmp-schema: what this program's QMP can do, for clients that adapt to it.</summary>
static class QuerySchema
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<SchemaInfo>>("query-qmp-schema",
        SchemaJson.Default, (context, _) => new SchemaBuilder(context.Catalogue.Json, context.Host.ModelsOf)
            .Build(context.Catalogue.Commands, EventCatalogue.All));
}

[JsonSerializable(typeof(IReadOnlyList<SchemaInfo>))]
sealed partial class SchemaJson : JsonSerializerContext;
