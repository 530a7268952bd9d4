using System.Text.Json.Serialization;
using Qkvm.Core.Acpi;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

public sealed record GuidInfo(string Guid);

/// <summary>query-vm-generation-id, and info vm-generation-id on the human monitor.</summary>
static class QueryGenerationId
{
    public static readonly Command Command = new Command<Nothing, GuidInfo>("query-vm-generation-id",
        GenerationIdJson.Default, static (context, _) =>
            context.Machine.Tree.AllDevices.Select(node => node.Device).OfType<IGenerationId>().FirstOrDefault()
                is { } device ? new GuidInfo($"{device.Generation}")
                : throw new CommandException("VM Generation ID device not found"))
    {
        Human = new("info vm-generation-id", "", "Show Virtual Machine Generation ID",
            null, static (monitor, info) => monitor.Write($"{info.Guid}\n")),
    };
}

[JsonSerializable(typeof(GuidInfo))]
sealed partial class GenerationIdJson : JsonSerializerContext;
