using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

public sealed record MigrationCapabilityStatus(string Capability, bool State);

/// <summary>query-migrate-capabilities: machines cannot be moved yet, so there are none.</summary>
static class QueryMigration
{
    public static readonly Command Capabilities = new Command<Nothing, IReadOnlyList<MigrationCapabilityStatus>>(
        "query-migrate-capabilities", MigrationJson.Default, static (_, _) => []);
}

[JsonSerializable(typeof(IReadOnlyList<MigrationCapabilityStatus>))]
sealed partial class MigrationJson : JsonSerializerContext;
