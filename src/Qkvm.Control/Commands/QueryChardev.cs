using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <param name="Filename">"pty:/dev/pts/3": how others reach it.</param>
/// <param name="FrontendOpen">A device or a monitor listens at the guest's side.</param>
public sealed record ChardevInfo(string Label, string Filename, bool FrontendOpen);

static class QueryChardev
{
    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<ChardevInfo>>("query-chardev", ChardevJson.Default, (context, _) =>
        [
            .. context.Backends.Chardevs.Select(c => new ChardevInfo(c.Key, c.Value.Description,
                context.Backends.OwnerOfChardev(c.Key) != null || context.Backends.Muxes.ContainsKey(c.Key))),
        ])
    {
        Human = new("info chardev", "", "show the character devices", null,
            (monitor, chardevs) =>
                { foreach (ChardevInfo c in chardevs) monitor.Write($"{c.Label}: filename={c.Filename}\n"); }),
    };
}

[JsonSerializable(typeof(IReadOnlyList<ChardevInfo>))]
sealed partial class ChardevJson : JsonSerializerContext;
