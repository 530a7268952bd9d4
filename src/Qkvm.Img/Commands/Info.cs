using System.Text.Json.Nodes;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>info: what an image says of itself. What it names is shown, not opened.</summary>
static class Info
{
    static readonly Option BackingChain = new('\0', "backing-chain"), LongFormat = Option.Format;

    public static readonly Subcommand Command = new("info",
        "[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename",
        [Option.Object, Option.ImageOpts, LongFormat, Option.Output, BackingChain, Option.ForceShare], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        bool wantsJson = tool.WantsJson(arguments), isChain = arguments.Has(BackingChain);
        string? name = tool.OneImage(arguments), format = arguments.Text(Option.Format);
        var chain = new List<ImageDescription>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        bool isOptions = arguments.Has(Option.ImageOpts);
        while (name != null)
        {
            if (!seen.Add(BlockFactory.Identity(name)))
                throw new ToolException($"Backing file '{name}' creates an infinite loop.");
            var how = new ImageOpening(format)
            {
                IsAlone = true, IsUnread = true, ForceShare = arguments.Has(Option.ForceShare),
            };
            BlockDriver node = tool.Open(name, how, isOptions);
            ImageFacts facts = node.Facts;
            string shown = isOptions || name.StartsWith("json:", StringComparison.Ordinal) ? NameOf(node) : name;
            string? full = facts.BackingFile is { } backing ? BlockFactory.RelativeTo(NameOf(node), backing) : null;
            chain.Add(new ImageDescription(shown, node.FormatName, node.Length, facts, full));
            (name, format, isOptions) = isChain ? (full, facts.BackingFormat, false) : (null, null, false);
            await tool.CloseAsync(node).ConfigureAwait(false);
        }
        if (!wantsJson) tool.Output.Write(string.Join('\n', chain.Select(Human)));
        else if (isChain) tool.Output.Write(JsonText.Of(new JsonArray([.. chain.Select(Json)])));
        else tool.Output.Write(JsonText.Of(Json(chain[0])));
        return 0;
    }

    static string Human(ImageDescription image) => (image with
    {
        Facts = image.Facts with { Specific = JsonText.Ordered((JsonNode?)image.Facts.Specific) as JsonObject },
    }).ToString();

    static JsonObject Json(ImageDescription image)
    {
        ImageFacts facts = image.Facts;
        var json = new JsonObject
        {
            ["filename"] = image.FileName, ["format"] = image.Format, ["dirty-flag"] = facts.IsDirty,
            ["virtual-size"] = image.Size,
        };
        if (facts.ActualSize is { } actual) json["actual-size"] = actual;
        if (facts.ClusterSize is { } cluster) json["cluster-size"] = cluster;
        if (facts.IsEncrypted) json["encrypted"] = true;
        if (facts.BackingFile is { } backing) json["backing-filename"] = backing;
        if (image.FullBackingFile is { } full) json["full-backing-filename"] = full;
        if (facts.BackingFormat is { } format) json["backing-filename-format"] = format;
        if (facts.Snapshots is { Count: > 0 } snapshots)
            json["snapshots"] = new JsonArray([.. snapshots.Select(Json)]);
        if (facts.Specific is { Count: > 0 } specific)
            json["format-specific"] = new JsonObject { ["type"] = image.Format, ["data"] = specific.DeepClone() };
        return json;
    }

    static JsonObject Json(BlockSnapshot snapshot)
    {
        const ulong nanosecondsPerSecond = 1_000_000_000;
        var json = new JsonObject
        {
            ["id"] = snapshot.Id, ["name"] = snapshot.Name, ["vm-state-size"] = snapshot.VmStateSize,
            ["date-sec"] = snapshot.Seconds, ["date-nsec"] = snapshot.Nanoseconds,
            ["vm-clock-sec"] = snapshot.VmClock / nanosecondsPerSecond,
            ["vm-clock-nsec"] = snapshot.VmClock % nanosecondsPerSecond,
        };
        if (snapshot.InstructionCount is { } count) json["icount"] = count;
        return json;
    }

    /// <summary>Of the file below formats.</summary>
    static string NameOf(BlockDriver node)
    {
        while (node.Children.FirstOrDefault(child => child.Role == "file")?.Node is { } below) node = below;
        return node.FileName;
    }
}
