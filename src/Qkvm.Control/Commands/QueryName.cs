using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <param name="Name">Null where -name gives none.</param>
public sealed record NameInfo(string? Name);

static class QueryName
{
    public static readonly Command Command = new Command<Nothing, NameInfo>("query-name", NameJson.Default,
        (context, _) => new NameInfo(context.Machine.Config.Name is { Length: > 0 } name ? name : null))
    {
        Human = new("info name", "", "show the current VM name", null,
            (monitor, info) => { if (info.Name != null) monitor.Write($"{info.Name}\n"); }),
    };
}

[JsonSerializable(typeof(NameInfo))]
sealed partial class NameJson : JsonSerializerContext;
