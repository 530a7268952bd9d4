using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Persistent">The image keeps it.</param>
/// <param name="Disabled">It takes no note of writes yet.</param>
public sealed record DirtyBitmapAddArguments(string Node, string Name, int? Granularity = null,
    bool Persistent = false, bool Disabled = false)
{
    internal BlockAction Action => new BitmapAddAction(Node, Name, Granularity, Persistent, !Disabled);
}

public sealed record DirtyBitmapArguments(string Node, string Name);

/// <param name="Bitmaps">Names, or objects with node and name.</param>
public sealed record DirtyBitmapMergeArguments(string Node, string Target, IReadOnlyList<JsonElement> Bitmaps)
{
    internal BlockAction Action => new BitmapMergeAction(Node, Target, DirtyBitmaps.Names(Bitmaps));
}

/// <summary>block-dirty-bitmap-…: what tells which bytes of a disk were written.</summary>
static class DirtyBitmaps
{
    public static readonly Command[] All =
    [
        Of<DirtyBitmapAddArguments>("add", static a => a.Action),
        Of<DirtyBitmapArguments>("remove", static a => new BitmapRemoveAction(a.Node, a.Name)),
        Of<DirtyBitmapArguments>("clear", static a => new BitmapClearAction(a.Node, a.Name)),
        Of<DirtyBitmapArguments>("enable", static a => new BitmapEnableAction(a.Node, a.Name, true)),
        Of<DirtyBitmapArguments>("disable", static a => new BitmapEnableAction(a.Node, a.Name, false)),
        Of<DirtyBitmapMergeArguments>("merge", static a => a.Action),
    ];

    /// <summary>Names, or objects with node and name.</summary>
    internal static IReadOnlyList<BitmapName> Names(IReadOnlyList<JsonElement> bitmaps) =>
        [.. bitmaps.Select(static one => one.ValueKind switch
        {
            JsonValueKind.String => new BitmapName(null, one.GetString()!),
            JsonValueKind.Object when one.TryGetProperty("node", out JsonElement node)
                && one.TryGetProperty("name", out JsonElement name) && node.ValueKind == JsonValueKind.String
                && name.ValueKind == JsonValueKind.String => new BitmapName(node.GetString(), name.GetString()!),
            _ => throw new CommandException("Invalid parameter type for 'bitmaps', expected: BlockDirtyBitmapOrStr"),
        })];

    static Command Of<T>(string verb, Func<T, BlockAction> action) where T : class =>
        new Command<T, Nothing>($"block-dirty-bitmap-{verb}", DirtyBitmapsJson.Default, async (context, arguments) =>
        {
            await context.Host.BlockJobs.TransactAsync([action(arguments)]).ConfigureAwait(false);
            return Nothing.Value;
        });
}

[JsonSerializable(typeof(DirtyBitmapAddArguments))]
[JsonSerializable(typeof(DirtyBitmapArguments))]
[JsonSerializable(typeof(DirtyBitmapMergeArguments))]
sealed partial class DirtyBitmapsJson : JsonSerializerContext;
