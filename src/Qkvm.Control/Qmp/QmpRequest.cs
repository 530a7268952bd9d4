using System.Text.Json;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Qmp;

/// <summary>What a client asked for.</summary>
/// <param name="Arguments">An object, or default for none.</param>
readonly record struct QmpRequest(string Name, JsonElement Arguments)
{
    /// <param name="id">What the answer carries back: known even where the request is refused.</param>
    /// <exception cref="CommandException">It is none; in QEMU's words.</exception>
    public static QmpRequest Parse(JsonElement request, bool allowsOutOfBand, out JsonElement id)
    {
        id = default;
        if (request.ValueKind != JsonValueKind.Object) throw new CommandException("QMP input must be a JSON object");
        if (request.TryGetProperty("id", out JsonElement given)) id = given;
        string? name = null;
        JsonElement arguments = default;
        foreach (JsonProperty member in request.EnumerateObject())
            switch (member.Name)
            {
                case "id": break;
                case "arguments":
                    if (member.Value.ValueKind != JsonValueKind.Object)
                        throw new CommandException("QMP input member 'arguments' must be an object");
                    arguments = member.Value;
                    break;
                case "exec-oob" when allowsOutOfBand: case "execute":
                    if (member.Value.ValueKind != JsonValueKind.String)
                        throw new CommandException($"QMP input member '{member.Name}' must be a string");
                    if (name != null) throw new CommandException("QMP input member 'execute' clashes with 'exec-oob'");
                    name = member.Value.GetString();
                    break;
                default: throw new CommandException($"QMP input member '{member.Name}' is unexpected");
            }
        return new QmpRequest(name ?? throw new CommandException("QMP input lacks member 'execute'"), arguments);
    }
}
