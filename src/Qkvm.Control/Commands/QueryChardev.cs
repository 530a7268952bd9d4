using System.Text.Json.Serialization;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Filename">"pty:/dev/pts/3": how others reach it.</param>
/// <param name="FrontendOpen">A device or a monitor listens at the guest's side.</param>
public sealed record ChardevInfo(string Label, string Filename, bool FrontendOpen);

public sealed record ChardevBackendInfo(string Name);

static class QueryChardev
{
    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<ChardevInfo>>("query-chardev", ChardevJson.Default, (context, _) =>
        [
            .. context.Backends.Chardevs.SelectMany(c => Shown(context.Backends, c.Key, c.Value)),
        ])
    {
        Human = new("info chardev", "", "show the character devices", null,
            (monitor, chardevs) =>
                { foreach (ChardevInfo c in chardevs) monitor.Write($"{c.Label}: filename={c.Filename}\n"); }),
    };

    /// <summary>query-chardev-backends: what chardev-add can make.</summary>
    public static readonly Command Backends = new Command<Nothing, IReadOnlyList<ChardevBackendInfo>>(
        "query-chardev-backends", ChardevJson.Default, (context, _) =>
        [
            .. context.Host.ModelsOf(ModelKind.Chardev).SelectMany(model => (string[])[model.Name, .. model.Aliases])
                .Select(name => new ChardevBackendInfo(name)),
        ]);

    /// <summary>One that several share is two: the multiplexer has its name.</summary>
    static IEnumerable<ChardevInfo> Shown(MachineBackends backends, string id, ICharBackend backend)
    {
        if (!backends.Muxes.ContainsKey(id))
            return [new ChardevInfo(id, backend.Description,
                backends.OwnerOfChardev(id) != null && backend.IsFrontendOpen)];
        return [new ChardevInfo($"{id}-base", backend.Description, true), new ChardevInfo(id, "mux", true)];
    }
}

[JsonSerializable(typeof(IReadOnlyList<ChardevInfo>))]
[JsonSerializable(typeof(IReadOnlyList<ChardevBackendInfo>))]
sealed partial class ChardevJson : JsonSerializerContext;
