using System.Numerics;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Control.Hmp;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>query-migrate-parameters and migrate-set-parameters: kept and answered, for clients that look whether a
/// migration could take dirty bitmaps along.</summary>
static class MigrationSettings
{
    const string Mapping = "block-bitmap-mapping", Aliases = $"Invalid mapping given for {Mapping}: ";
    const ulong PageSize = 4096, MaxDowntime = 2000 * 1000;        // bytes, milliseconds

    /// <summary>What `info migrate_parameters` shows, in its order, and what stands behind the values.</summary>
    static readonly (string Name, string Unit)[] s_shown =
    [
        ("announce-initial", " ms"), ("announce-max", " ms"), ("announce-rounds", ""), ("announce-step", " ms"),
        ("compress-level", ""), ("compress-threads", ""), ("compress-wait-thread", ""), ("decompress-threads", ""),
        ("throttle-trigger-threshold", ""), ("cpu-throttle-initial", ""), ("cpu-throttle-increment", ""),
        ("cpu-throttle-tailslow", ""), ("max-cpu-throttle", ""), ("tls-creds", ""), ("tls-hostname", ""),
        ("max-bandwidth", " bytes/second"), ("downtime-limit", " ms"), ("x-checkpoint-delay", " ms"),
        ("block-incremental", ""), ("multifd-channels", ""), ("multifd-compression", ""),
        ("xbzrle-cache-size", " bytes"), ("max-postcopy-bandwidth", ""), ("tls-authz", ""),
    ];

    static readonly string[] s_hidden = ["multifd-zlib-level", "multifd-zstd-level", Mapping];

    public static readonly Command Query = new Command<Nothing, MigrationParameters>("query-migrate-parameters",
        MigrationSettingsJson.Default, static (context, _) => context.Machine.Migration)
    {
        Human = new("info migrate_parameters", "", "show current migration parameters", null, Print),
    };

    public static readonly Command Set = new Command<MigrationParameters, Nothing>("migrate-set-parameters",
        MigrationSettingsJson.Default, static (context, given) => Change(context, given));

    public static readonly Command SetOne = new HumanCommand("migrate_set_parameter", "parameter value",
        "Set the parameter for migration", static (monitor, words) =>
        {
            string name = words.Word(), value = words.Word();
            words.End();
            if (!s_shown.Any(one => one.Name == name) && !s_hidden.Contains(name))
                throw new CommandException($"invalid parameter value: {name}");
            if (name == Mapping)
                throw new CommandException($"The {name} parameter can only be set through QMP");
            JsonElement given = JsonSerializer.SerializeToElement(new JsonObject { [name] = Parse(name, value) },
                MigrationSettingsJson.Default.JsonObject);
            var read = ArgumentReader.Read(given,
                (JsonTypeInfo<MigrationParameters>)monitor.Context.Catalogue.Json.GetTypeInfo(
                    typeof(MigrationParameters)));
            Change(monitor.Context, read);
        }) { Completes = [Completions.Words([.. s_shown.Select(static one => one.Name), .. s_hidden])] };

    static Nothing Change(CommandContext context, MigrationParameters given)
    {
        Check(given, context.Machine.Migration);
        JsonTypeInfo<MigrationParameters> type = MigrationSettingsJson.Default.MigrationParameters;
        JsonObject all = JsonSerializer.SerializeToNode(context.Machine.Migration, type)!.AsObject();
        foreach ((string name, JsonNode? value) in JsonSerializer.SerializeToNode(given, type)!.AsObject())
            all[name] = value?.DeepClone();
        context.Machine.Migration = all.Deserialize(type)!;
        return Nothing.Value;
    }

    static void Print(IMonitor monitor, MigrationParameters all)
    {
        JsonObject values = JsonSerializer.SerializeToNode(all, MigrationSettingsJson.Default.MigrationParameters)!
            .AsObject();
        foreach ((string name, string unit) in s_shown)
        {
            JsonNode? value = values[name];
            string text = value?.GetValueKind() switch
            {
                JsonValueKind.True => "on",
                JsonValueKind.False => "off",
                JsonValueKind.String when name.StartsWith("tls-", StringComparison.Ordinal) => $"'{value}'",
                _ => $"{value}",
            };
            monitor.Write($"{name}: {text}{unit}\n");
        }
        if (all.BlockBitmapMapping is not { } nodes) return;
        monitor.Write($"{Mapping}:\n");
        foreach (BitmapMigrationNodeAlias node in nodes)
        {
            monitor.Write($"  '{node.NodeName}' -> '{node.Alias}'\n");
            foreach (BitmapMigrationBitmapAlias bitmap in node.Bitmaps)
                monitor.Write($"    '{bitmap.Name}' -> '{bitmap.Alias}'\n");
        }
    }

    /// <summary>A word of the human monitor as JSON has it.</summary>
    static JsonNode Parse(string name, string word)
    {
        if (name.StartsWith("tls-", StringComparison.Ordinal) || name == "multifd-compression") return word;
        if (name is "compress-wait-thread" or "cpu-throttle-tailslow" or "block-incremental")
            return Options.ParseBool(word)
                ?? throw new CommandException($"Parameter '{name}' expects 'on' or 'off'");
        if (name == "max-bandwidth")
            return Sizes.TryParse(word, 1 << 20, out ulong bandwidth) ? bandwidth
                : throw new CommandException($"Invalid size {word}");
        return Sizes.TryParse(word, 1, out ulong number) ? number : throw new CommandException(
            $"Parameter '{name}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means "
                + "kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.");
    }

    static void Check(MigrationParameters given, MigrationParameters before)
    {
        Range("announce_initial", given.AnnounceInitial, 0, 100_000);
        Range("announce_max", given.AnnounceMax, 0, 100_000);
        Range("announce_rounds", given.AnnounceRounds, 0, 1000);
        Range("announce_step", given.AnnounceStep, 0, 10_000);
        Range("compress_level", given.CompressLevel, 0, 9);
        Range("compress_threads", given.CompressThreads, 1, 255);
        Range("decompress_threads", given.DecompressThreads, 1, 255);
        Range("multifd_channels", given.MultifdChannels, 1, 255);
        Range("multifd_zlib_level", given.MultifdZlibLevel, 0, 9);
        Range("multifd_zstd_level", given.MultifdZstdLevel, 0, 20);
        Percent("throttle_trigger_threshold", given.ThrottleTriggerThreshold, 1, "1", 100);
        Percent("cpu_throttle_initial", given.CpuThrottleInitial, 1, "1", 99);
        Percent("cpu_throttle_increment", given.CpuThrottleIncrement, 1, "1", 99);
        Percent("max_cpu_throttle", given.MaxCpuThrottle, given.CpuThrottleInitial ?? before.CpuThrottleInitial ?? 1,
            "cpu_throttle_initial", 99);
        if (given.DowntimeLimit > MaxDowntime) throw new CommandException(
            "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms");
        if (given.XbzrleCacheSize is { } cache && (cache < PageSize || !BitOperations.IsPow2(cache)))
            throw new CommandException("Parameter 'xbzrle_cache_size' expects a power of two no less than the target "
                + "page size");
        foreach ((string name, JsonValue? text) in (ReadOnlySpan<(string, JsonValue?)>)[("tls-creds", given.TlsCreds),
            ("tls-hostname", given.TlsHostname), ("tls-authz", given.TlsAuthz)])
            if (text != null && text.GetValueKind() != JsonValueKind.String)
                throw new CommandException($"Invalid parameter type for '{name}', expected: StrOrNull");
        CheckAliases(given.BlockBitmapMapping ?? []);
    }

    static void Range(string name, long? value, long least, long most)
    {
        if (value < least || value > most)
            throw new CommandException($"Parameter '{name}' expects a value between {least} and {most}");
    }

    static void Percent(string name, int? value, int least, string leastName, int most)
    {
        if (value < least || value > most) throw new CommandException(
            $"Parameter '{name}' expects an integer in the range of {leastName} to {most}");
    }

    /// <summary>Both sides know each node and bitmap by one name.</summary>
    static void CheckAliases(IReadOnlyList<BitmapMigrationNodeAlias> nodes)
    {
        HashSet<string> names = [], aliases = [];
        foreach (BitmapMigrationNodeAlias node in nodes)
        {
            if (!Identifier.IsWellFormed(node.Alias))
                throw new CommandException($"{Aliases}The node alias '{node.Alias}' is not well-formed");
            if (!names.Add(node.NodeName))
                throw new CommandException($"{Aliases}The node name '{node.NodeName}' is mapped twice");
            if (!aliases.Add(node.Alias))
                throw new CommandException($"{Aliases}The node alias '{node.Alias}' is used twice");
            HashSet<string> bitmaps = [], bitmapAliases = [];
            foreach (BitmapMigrationBitmapAlias bitmap in node.Bitmaps)
            {
                if (!bitmaps.Add(bitmap.Name))
                    throw new CommandException($"{Aliases}The bitmap '{node.NodeName}'/'{bitmap.Name}' is mapped "
                        + "twice");
                if (!bitmapAliases.Add(bitmap.Alias))
                    throw new CommandException($"{Aliases}The bitmap alias '{node.Alias}'/'{bitmap.Alias}' is used "
                        + "twice");
            }
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.KebabCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(MigrationParameters))]
[JsonSerializable(typeof(JsonObject))]
sealed partial class MigrationSettingsJson : JsonSerializerContext;
