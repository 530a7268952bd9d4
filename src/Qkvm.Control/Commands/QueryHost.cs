using System.Text.Json.Serialization;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

public sealed record TargetInfo(string Arch);

/// <param name="Enabled">What runs this machine.</param>
/// <param name="Present">What -accel can name.</param>
public sealed record AcceleratorsInfo(string Enabled, IReadOnlyList<string> Present);

/// <summary>What clients ask before they start a machine: which processor, which accelerators.</summary>
static class QueryHost
{
    public static readonly Command Target = new Command<Nothing, TargetInfo>("query-target", HostJson.Default,
        static (_, _) => new TargetInfo("x86_64"));

    public static readonly Command Accelerators = new Command<Nothing, AcceleratorsInfo>("query-accelerators",
        HostJson.Default, static (context, _) => new AcceleratorsInfo(context.Machine.Accelerator.Name,
            [.. context.Host.ModelsOf(ModelKind.Accelerator).Select(model => model.Name)]))
    {
        Human = new("info accelerators", "", "show the accelerators", null, static (monitor, info) =>
        {
            foreach (string name in info.Present)
                monitor.Write($"{name}{(name == info.Enabled ? " (enabled)" : "")}\n");
        }),
    };
}

[JsonSerializable(typeof(TargetInfo))]
[JsonSerializable(typeof(AcceleratorsInfo))]
sealed partial class HostJson : JsonSerializerContext;
