using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<StatsProvider>))]
public enum StatsProvider { Kvm }

[JsonConverter(typeof(NamedEnum<StatsTarget>))]
public enum StatsTarget { Vm, Vcpu }

/// <param name="Names">Null: all of them.</param>
public sealed record StatsRequest(StatsProvider Provider, IReadOnlyList<string>? Names = null);

/// <param name="Vcpus">Their QOM paths; null: all. With the target vcpu alone.</param>
/// <param name="Providers">Null: all.</param>
public sealed record StatsArguments(StatsTarget Target, IReadOnlyList<string>? Vcpus = null,
    IReadOnlyList<StatsRequest>? Providers = null);

/// <param name="Value">A number, a boolean, or the numbers of a histogram.</param>
public sealed record StatsValue(string Name, JsonElement Value);

/// <param name="QomPath">Of a vCPU.</param>
public sealed record StatsInfo(StatsProvider Provider, IReadOnlyList<StatsValue> Stats, string? QomPath = null)
{
    /// <summary>For the human monitor alone.</summary>
    [JsonIgnore] public IReadOnlyList<Statistic> Read { get; init; } = [];
}

public sealed record StatsSchemasArguments(StatsProvider? Provider = null);

public sealed record StatsSchemaValue(string Name, StatisticKind Type, int Exponent, StatisticUnit? Unit = null,
    int? Base = null, uint? BucketSize = null);

public sealed record StatsSchema(StatsProvider Provider, StatsTarget Target, IReadOnlyList<StatsSchemaValue> Stats);

/// <summary>query-stats: what the accelerator counts.</summary>
/// <remarks>Deviation: beside the kernel's counts stands how often vCPUs left KVM_RUN, by reason.</remarks>
static class QueryStatistics
{
    public static readonly Command Command = new Command<StatsArguments, IReadOnlyList<StatsInfo>>("query-stats",
        StatsJson.Default, Query)
    {
        Human = new("info stats", "target [names] [provider]", "show statistics for the given target (vm or vcpu); "
            + "optionally filter by name (comma-separated list, or * for all) and provider", Parse, Print),
    };

    public static readonly Command Schemas = new Command<StatsSchemasArguments, IReadOnlyList<StatsSchema>>(
        "query-stats-schemas", StatsJson.Default, static (context, _) =>
        {
            if (context.Machine.Accelerator is not ICounting counting) return [];
            return [SchemaOf(StatsTarget.Vm, counting.Statistics(null)),
                SchemaOf(StatsTarget.Vcpu, counting.Statistics(context.Machine.Cpus[0]))];
        });

    static IReadOnlyList<StatsInfo> Query(CommandContext context, StatsArguments arguments)
    {
        if (arguments is { Target: StatsTarget.Vm, Vcpus: not null })
            throw new CommandException("Parameter 'vcpus' is unexpected");
        if (context.Machine.Accelerator is not ICounting counting) return [];
        IReadOnlyList<string>? names = null;
        if (arguments.Providers is { } providers)
        {
            if (providers.Count == 0) return [];
            if (providers.All(static p => p.Names != null)) names = [.. providers.SelectMany(static p => p.Names!)];
        }
        if (arguments.Target == StatsTarget.Vm) return InfoOf(counting.Statistics(null), names, null);
        return [.. context.Machine.Cpus.Select(cpu => (Cpu: cpu, Path: QueryCpus.PathOf(context.Machine, cpu.Index)))
            .Where(place => arguments.Vcpus == null || arguments.Vcpus.Contains(place.Path))
            .SelectMany(place => InfoOf(counting.Statistics(place.Cpu), names, place.Path))];
    }

    static IReadOnlyList<StatsInfo> InfoOf(IReadOnlyList<Statistic> all, IReadOnlyList<string>? names, string? path)
    {
        Statistic[] chosen = [.. all.Where(one => names == null || names.Contains(one.Name))];
        return chosen.Length == 0 ? []
            : [new StatsInfo(StatsProvider.Kvm, [.. chosen.Select(ValueOf)], path) { Read = chosen }];
    }

    static StatsValue ValueOf(Statistic one)
    {
        JsonNode value = one.IsHistogram ? new JsonArray([.. one.Values.Select(static v => JsonValue.Create(v))])
            : one.Unit == StatisticUnit.Boolean ? JsonValue.Create(one.Values[0] != 0)
            : JsonValue.Create(one.Values[0]);
        return new StatsValue(one.Name, JsonSerializer.SerializeToElement(value, StatsJson.Default.JsonNode));
    }

    static StatsSchema SchemaOf(StatsTarget target, IReadOnlyList<Statistic> all) =>
        new(StatsProvider.Kvm, target, [.. all.Select(static one => new StatsSchemaValue(one.Name, one.Kind,
            one.Exponent, one.Unit, one.Exponent != 0 ? one.Base : null,
            one.BucketSize != 0 ? one.BucketSize : null))]);

    static StatsArguments Parse(MonitorArguments words)
    {
        string target = words.Word("target"), names = words.Optional() ?? "*", provider = words.Optional() ?? "kvm";
        words.End();
        if (target is not ("vm" or "vcpu")) throw new CommandException($"invalid stats target {target}");
        if (provider != "kvm") throw new CommandException($"invalid stats provider {provider}");
        return new StatsArguments(target == "vm" ? StatsTarget.Vm : StatsTarget.Vcpu, null,
            [new StatsRequest(StatsProvider.Kvm, names == "*" ? null : names.Split(','))]);
    }

    static void Print(IMonitor monitor, IReadOnlyList<StatsInfo> found)
    {
        string path = QueryCpus.PathOf(monitor.Context.Machine, monitor.Context.Cpu.Index);
        foreach (StatsInfo info in found)
        {
            if (info.QomPath != null && info.QomPath != path) continue; // of the monitor's own processor
            monitor.Write("provider: kvm\n");
            foreach (Statistic one in info.Read) monitor.Write($"    {one.Name} ({Kind(one)}): {Value(one)}\n");
        }
    }

    static string Kind(Statistic one)
    {
        string kind = JsonNamingPolicy.KebabCaseLower.ConvertName(one.Kind.ToString());
        if (one.Unit == StatisticUnit.Boolean) return $"{kind}, boolean";
        string unit = one.Unit switch
        {
            null when one.Exponent == 0 => "",
            null => $"* {one.Base}^{one.Exponent}",
            StatisticUnit.Seconds when (one.Base, one.Exponent) == (10, -9) => "nanoseconds",
            { } known when one.Exponent == 0 => known.ToString().ToLowerInvariant(),
            { } known => $"* {one.Base}^{one.Exponent} {known.ToString().ToLowerInvariant()}",
        };
        string bucket = one.BucketSize != 0 ? $", bucket size={one.BucketSize}" : "";
        return $"{kind}{(unit.Length > 0 ? $", {unit}" : "")}{bucket}";
    }

    static string Value(Statistic one) => one.IsHistogram
        ? string.Join(' ', one.Values.Select(static (value, i) => $"[{i}]={value}"))
        : one.Unit == StatisticUnit.Boolean ? one.Values[0] != 0 ? "yes" : "no" : $"{one.Values[0]}";
}

[JsonSerializable(typeof(StatsArguments))]
[JsonSerializable(typeof(IReadOnlyList<StatsInfo>))]
[JsonSerializable(typeof(StatsSchemasArguments))]
[JsonSerializable(typeof(IReadOnlyList<StatsSchema>))]
[JsonSerializable(typeof(JsonNode))]
sealed partial class StatsJson : JsonSerializerContext;
