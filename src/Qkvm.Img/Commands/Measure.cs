using System.Text.Json.Nodes;
using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>measure: how large the file of an image would be.</summary>
static class Measure
{
    static readonly Option SizeOption = new('\0', "size", true);

    public static readonly Subcommand Command = new("measure",
        "[--output=ofmt] [-O output_fmt] [-o options] [--size N | [--object objectdef] [--image-opts] [-f fmt] " +
            "[-l snapshot_param] filename]",
        [
            Option.Object, Option.ImageOpts, Option.Output, Option.TargetFormat, Option.Options, SizeOption,
            Option.Format, Option.Snapshot, Option.ForceShare,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        bool wantsJson = tool.WantsJson(arguments);
        string format = arguments.Text(Option.TargetFormat) ?? "raw";
        Options given = CreateOptions.Parse(arguments);
        long? size = arguments.Text(SizeOption) is { } text ? Tool.Size("image size", text) : null;
        if (arguments.Names.Count > 1) throw new ToolException("At most one filename argument is allowed.");
        string? name = arguments.Names.Count > 0 ? arguments.Names[0] : null;
        if (name == null && (arguments.Has(Option.ImageOpts) || arguments.Has(Option.Format)
            || arguments.Has(Option.Snapshot)))
            throw new ToolException("--image-opts, -f, and -l require a filename argument.");
        if (name == null && size == null) throw new ToolException("Either --size N or one filename must be specified.");
        if (name != null && size != null)
            throw new ToolException("--size N cannot be used together with a filename.");
        BlockDriver? source = name == null ? null : tool.Open(arguments, name, new ImageOpening());
        if (source != null && arguments.Text(Option.Snapshot) is { } snapshot)
            await SnapshotChoice.ShowAsync(source, snapshot).ConfigureAwait(false);
        ImageCreation creation = CreateOptions.Creation(tool, format);
        if (creation.MeasureAsync is not { } measure)
            throw new ToolException($"Block driver '{format}' does not support size measurement");
        Properties options = Check(creation, given, format);
        Measurement result = await measure(new ImageMeasuring(options, source?.Length ?? size!.Value, source))
            .ConfigureAwait(false);
        if (wantsJson)
        {
            var json = new JsonObject { ["required"] = result.Required, ["fully-allocated"] = result.FullyAllocated };
            if (result.Bitmaps is { } bitmaps) json["bitmaps"] = bitmaps;
            tool.Output.Write(JsonText.Of(json));
            return 0;
        }
        tool.Output.Write($"required size: {result.Required}\nfully allocated size: {result.FullyAllocated}\n");
        if (result.Bitmaps is { } bytes) tool.Output.Write($"bitmaps size: {bytes}\n");
        return 0;
    }

    static Properties Check(ImageCreation creation, Options options, string format)
    {
        try { return CreateOptions.Check(creation, options, ""); }
        catch (ToolException e)
        {
            throw new ToolException(e.Message, $"Invalid options for file format '{format}'");
        }
    }
}
