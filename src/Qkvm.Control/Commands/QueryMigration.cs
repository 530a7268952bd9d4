using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Capability">"events": each step of a migration is told.</param>
public sealed record MigrationCapabilityStatus(string Capability, bool State);

public sealed record MigrateSetCapabilitiesArguments(IReadOnlyList<MigrationCapabilityStatus> Capabilities);

/// <summary>What a migration would do, as clients ask for it when a machine starts. Machines cannot be moved yet: there
/// is no `migrate`, and of its capabilities there is the one that clients switch on whatever the list says.</summary>
static class QueryMigration
{
    const string Events = "events";

    /// <summary>There was none.</summary>
    public static readonly Command Query = new Command<Nothing, Nothing>("query-migrate", NothingJson.Default,
        static (_, _) => Nothing.Value)
    {
        Human = new("info migrate", "", "show migration status"),
    };

    public static readonly Command Capabilities = new Command<Nothing, IReadOnlyList<MigrationCapabilityStatus>>(
        "query-migrate-capabilities", MigrationJson.Default,
        static (context, _) => [new(Events, context.Machine.TellsMigration)])
    {
        Human = new("info migrate_capabilities", "", "show current migration capabilities", null,
            static (monitor, all) =>
            {
                foreach (MigrationCapabilityStatus one in all)
                    monitor.Write($"{one.Capability}: {(one.State ? "on" : "off")}\n");
            }),
    };

    public static readonly Command SetCapabilities = new Command<MigrateSetCapabilitiesArguments, Nothing>(
        "migrate-set-capabilities", MigrationJson.Default, static (context, arguments) =>
        {
            foreach (MigrationCapabilityStatus one in arguments.Capabilities)
                if (one.Capability != Events)
                    throw new CommandException($"Parameter 'capability' does not accept value '{one.Capability}'");
                else context.Machine.TellsMigration = one.State;
            return Nothing.Value;
        })
    {
        Human = new("migrate_set_capability", "capability state", "Enable/Disable the usage of a capability for "
            + "migration", static words => new MigrateSetCapabilitiesArguments([new(words.Word(),
                words.Switch())])),
        Completes = [Completions.Words(Events), Completions.OnOff],
    };
}

[JsonSerializable(typeof(MigrateSetCapabilitiesArguments))]
[JsonSerializable(typeof(IReadOnlyList<MigrationCapabilityStatus>))]
sealed partial class MigrationJson : JsonSerializerContext;
