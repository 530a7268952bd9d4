using System.Text.Json.Serialization;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;
using Qkvm.Core.Tpm;

namespace Qkvm.Control.Commands;

public sealed record TpmEmulatorOptions(string Chardev);

public sealed record TpmTypeOptions(string Type, TpmEmulatorOptions Data);

/// <param name="Id">Of -tpmdev.</param>
/// <param name="Model">The device that it is the guest's through.</param>
public sealed record TpmInfo(string Id, string Model, TpmTypeOptions Options);

/// <summary>query-tpm, and info tpm on the human monitor: TPMs that a device has taken.</summary>
static class QueryTpm
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<TpmInfo>>("query-tpm", TpmJson.Default,
        static (context, _) => [.. context.Machine.Tree.AllDevices.Select(node => node.Device).OfType<ITpmDevice>()
            .Select(device => new TpmInfo(device.Tpm.Id, device.Model,
                new TpmTypeOptions(device.Tpm.Type, new TpmEmulatorOptions(device.Tpm.Chardev))))])
    {
        Human = new("info tpm", "", "show the TPM device", null, static (monitor, tpms) =>
        {
            if (tpms.Count > 0) monitor.Write("TPM device:\n");
            for (int i = 0; i < tpms.Count; i++)
                monitor.Write($" tpm{i}: model={tpms[i].Model}\n  \\ {tpms[i].Id}: type={tpms[i].Options.Type}"
                    + $",chardev={tpms[i].Options.Data.Chardev}\n");
        }),
    };

    public static readonly Command Models = new Command<Nothing, IReadOnlyList<string>>("query-tpm-models",
        TpmJson.Default, static (context, _) => [.. context.Host.ModelsOf(ModelKind.Device)
            .Where(model => model.Properties.Any(p => p.Kind == PropertyKind.Tpmdev)).Select(model => model.Name)]);

    public static readonly Command Types = new Command<Nothing, IReadOnlyList<string>>("query-tpm-types",
        TpmJson.Default, static (context, _) => [.. context.Host.ModelsOf(ModelKind.Tpm).Select(model => model.Name)]);
}

[JsonSerializable(typeof(IReadOnlyList<TpmInfo>))]
[JsonSerializable(typeof(IReadOnlyList<string>))]
sealed partial class TpmJson : JsonSerializerContext;
