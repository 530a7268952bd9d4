using System.Text.Json;
using System.Text.Json.Nodes;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Backends.Objects;

/// <summary>-object throttle-group: limits that all share who name the group.</summary>
public sealed class ThrottleGroupObject(ThrottleGroups groups, ThrottleGroup group) : IDisposable, ILiveProperties
{
    const string Limits = "limits", Prefix = "x-";

    public static readonly ObjectModel Model = new("throttle-group",
        [
            .. ThrottleLimits.Names.Select(static name => ThrottleLimits.IsLength(name)
                ? Property.Number(Prefix + name, 1, max: uint.MaxValue, help: "seconds that a burst may last")
                : Property.Number(Prefix + name, 0, max: long.MaxValue, help: HelpOf(name))),
            Property.Tree(Limits, "the same without x-: iops-total=N …"),
        ],
        static (properties, host) => Make(properties, host.Backends.Throttles!))
        { Description = "limits of speed that disks share" };

    static string HelpOf(string name) =>
        name.EndsWith("-max", StringComparison.Ordinal) ? "a second in a burst; 0: none is granted"
        : name == "iops-size" ? "bytes from which on a request counts as several"
        : name.StartsWith("bps", StringComparison.Ordinal) ? "bytes a second; 0: no limit"
        : "requests a second; 0: no limit";

    static ThrottleGroupObject Make(Properties properties, ThrottleGroups groups)
    {
        ThrottleLimits limits = ThrottleLimits.None.With(name => (long)properties.Number(Prefix + name));
        if (properties.Tree(Limits) is { } given)
        {
            limits = limits.With(name => given.Number(name, long.MinValue, long.MaxValue));
            given.Close();
        }
        if (limits.Fault is { } fault) throw properties.Error(fault);
        ThrottleGroup group;
        try { group = groups.Keep(properties.Required("id")); }
        catch (ConfigurationException e) { throw properties.Error(e.Message, e); }
        group.Limits = limits;
        return new ThrottleGroupObject(groups, group);
    }

    public ThrottleGroup Group => group;

    public void Dispose() => groups.Drop(group);

    public IEnumerable<QomProperty> LiveProperties =>
    [
        new(Limits, "ThrottleLimits", () => new JsonObject(ThrottleLimits.Names.Select(name =>
            KeyValuePair.Create(name, (JsonNode?)JsonValue.Create(group.Limits[name])))), SetLimits),
        .. ThrottleLimits.Names.Select(name => new QomProperty(Prefix + name, "int",
            () => JsonValue.Create(group.Limits[name]), static _ =>
                throw new CommandException("Property cannot be set after initialization"))),
    ];

    /// <summary>What is not said stays.</summary>
    void SetLimits(JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Object)
            throw new CommandException($"Invalid parameter type for '{Limits}', expected: object");
        foreach (JsonProperty member in value.EnumerateObject())
            if (!ThrottleLimits.Names.Contains(member.Name))
                throw new CommandException($"Parameter '{Limits}.{member.Name}' is unexpected");
        ThrottleLimits limits = group.Limits.With(name => !value.TryGetProperty(name, out JsonElement number) ? null
            : number.ValueKind == JsonValueKind.Number && number.TryGetInt64(out long given) ? given
            : throw new CommandException($"Invalid parameter type for '{Limits}.{name}', expected: integer"));
        group.Limits = limits.Fault is { } fault ? throw new CommandException(fault) : limits;
    }
}
