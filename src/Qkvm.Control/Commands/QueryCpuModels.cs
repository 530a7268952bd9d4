using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Qkvm.Control.Qom;
using Qkvm.Core.Accel;
using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>What query-cpu-model-expansion tells: what never changes, or all.</summary>
[JsonConverter(typeof(NamedEnum<CpuModelExpansionType>))]
public enum CpuModelExpansionType { Static, Full }

/// <param name="Props">Features and other properties, by their names in -cpu.</param>
public sealed record CpuModelInfo(string Name, JsonNode? Props = null);

public sealed record CpuModelExpansionArguments(CpuModelExpansionType Type, CpuModelInfo Model);

public sealed record CpuModelExpansionInfo(CpuModelInfo Model);

/// <summary>What -cpu can name and what guests then see.</summary>
static class QueryCpuModels
{
    public static readonly Command Definitions = new Command<Nothing, IReadOnlyList<CpuDefinition>>(
        "query-cpu-definitions", CpuModelsJson.Default,
        static (context, _) => context.Machine.Accelerator.CpuModels.Definitions);

    public static readonly Command Expansion = new Command<CpuModelExpansionArguments, CpuModelExpansionInfo>(
        "query-cpu-model-expansion", CpuModelsJson.Default, static (context, arguments) =>
        {
            CpuView view = Expand(context, arguments.Model);
            var props = new JsonObject();
            foreach (QomProperty property in QomTree.CpuProperties(view))
                if (property.Name is not ("unavailable-features" or "phys-bits"))
                    props[property.Name switch
                    {
                        "level" => "min-level", "xlevel" => "min-xlevel", var name => name,
                    }] = property.Get();
            return new(new CpuModelInfo(arguments.Type == CpuModelExpansionType.Static ? "base"
                : arguments.Model.Name, props));
        });

    static CpuView Expand(CommandContext context, CpuModelInfo model)
    {
        var features = new List<KeyValuePair<string, bool>>();
        var properties = new List<OptionPair>();
        foreach ((string name, JsonNode? value) in model.Props as JsonObject ?? [])
            if (value?.GetValueKind() is JsonValueKind.True or JsonValueKind.False)
                features.Add(new(name, value.GetValue<bool>()));
            else properties.Add(new OptionPair(name, value?.ToString() ?? ""));
        try
        {
            return context.Machine.Accelerator.CpuModels.Expand(new CpuSetup(model.Name, features, 0, 1, 1, 1)
                { Properties = properties });
        }
        catch (ConfigurationException e)
        {
            throw new CommandException(e.Message, inner: e);
        }
    }
}

[JsonSerializable(typeof(CpuModelExpansionArguments))]
[JsonSerializable(typeof(CpuModelExpansionInfo))]
[JsonSerializable(typeof(IReadOnlyList<CpuDefinition>))]
sealed partial class CpuModelsJson : JsonSerializerContext;
