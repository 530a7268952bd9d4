using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>amend: changes what an image was made with.</summary>
static class Amend
{
    static readonly Option Force = new('\0', "force");

    public static readonly Subcommand Command = new("amend",
        "[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename",
        [
            Option.Object, Option.ImageOpts, Option.Progress, Option.Quiet, Option.Format, Option.Cache, Force,
            Option.Options,
        ], RunAsync);

    /// <summary>The options that a format amends.</summary>
    sealed record AmendOptions(Property[] Properties) : Model("amend", Properties);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        if (!arguments.Has(Option.Options)) throw new ToolException("Must specify options (-o)", hasHint: true);
        Options given = CreateOptions.Parse(arguments);
        string? format = arguments.Text(Option.Format);
        if (CreateOptions.WantsHelp(given) && format != null)
        {
            BlockDriverModel model = tool.Drivers.Known(format)
                ?? throw new ToolException($"Unknown file format '{format}'");
            return WriteHelp(tool, model);
        }
        if (arguments.Names is not [var name]) throw new ToolException("Expecting one image file name");
        CacheMode cache = tool.Cache(arguments, Option.Cache, "writeback");
        BlockDriver node = tool.Open(arguments, name, new ImageOpening { IsWritable = true, Cache = cache });
        BlockDriverModel driver = tool.Drivers.Find(node.FormatName)!;
        if (CreateOptions.WantsHelp(given)) return WriteHelp(tool, driver);
        if (node is not IAmendable image)
            throw new ToolException($"Format driver '{node.FormatName}' does not support option amendment");
        var known = new AmendOptions(driver.AmendOptions);
        foreach (OptionPair pair in given.Rest)
            if (known.Find(pair.Name) == null && driver.Creation?.Find(pair.Name) != null)
                throw new ToolException($"Invalid parameter '{pair.Name}'\nThis option is only supported for image " +
                    "creation");
        Properties options = CreateOptions.Check(known, given, "");
        if (known.Find("backing_file") != null && options.Text("backing_file") is { } backing
            && backing != (node.Facts.BackingFile ?? ""))
            throw new ToolException($"Cannot amend the backing file\nYou can use '{tool.Program} rebase' instead.");
        using var progress = new Progress(tool, arguments);
        progress.Report(0);
        var amendment = new Amendment(options, arguments.Has(Force), tool.Factory.Secret, progress.Report);
        try { await image.AmendAsync(amendment).ConfigureAwait(false); }
        catch (BlockException e) { throw new ToolException(e.Message); }
        await node.FlushAsync().ConfigureAwait(false);
        progress.End();
        return 0;
    }

    static int WriteHelp(Tool tool, BlockDriverModel model)
    {
        if (model.AmendOptions.Length == 0)
            throw new ToolException($"Format driver '{model.Name}' does not support option amendment");
        CreateOptions.WriteHelp(tool.Output, $"Amend options for '{model.Name}':", model.AmendOptions);
        return 0;
    }
}
