using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <param name="Enabled">This machine runs on KVM.</param>
/// <param name="Present">This program can use it.</param>
public sealed record KvmInfo(bool Enabled, bool Present);

static class QueryKvm
{
    public static readonly Command Command = new Command<Nothing, KvmInfo>("query-kvm", KvmJson.Default,
        (context, _) => new KvmInfo(context.Machine.Accelerator.IsKernel, true))
    {
        Human = new("info kvm", "", "show KVM information", null, (monitor, info) => monitor.Write("kvm support: " +
            $"{(info.Enabled ? "enabled" : "disabled")}\n")),
    };
}

[JsonSerializable(typeof(KvmInfo))]
sealed partial class KvmJson : JsonSerializerContext;
