using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

public sealed record UuidInfo([property: JsonPropertyName("UUID")] string Uuid);

static class QueryUuid
{
    public static readonly Command Command = new Command<Nothing, UuidInfo>("query-uuid", UuidJson.Default,
        (context, _) => new UuidInfo($"{context.Machine.Config.Uuid}"))
    {
        Human = new("info uuid", "", "show the current VM UUID", null,
            (monitor, info) => monitor.Write($"{info.Uuid}\n")),
    };
}

[JsonSerializable(typeof(UuidInfo))]
sealed partial class UuidJson : JsonSerializerContext;
