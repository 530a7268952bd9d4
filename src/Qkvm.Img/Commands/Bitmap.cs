using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>bitmap: makes, clears, joins and removes an image's dirty bitmaps, in the order of the options.</summary>
static class Bitmap
{
    static readonly Option Add = new('\0', "add"), Remove = new('\0', "remove"), Clear = new('\0', "clear"),
        Enable = new('\0', "enable"), Disable = new('\0', "disable"), Merge = new('\0', "merge", true),
        Granularity = new('g', "granularity", true), SourceFile = new('b', "source-file", true),
        SourceFormat = new('F', "source-format", true);

    static readonly Option[] Actions = [Merge, Add, Remove, Clear, Enable, Disable];

    public static readonly Subcommand Command = new("bitmap",
        "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F source_fmt]] " +
            "[-g granularity] [--object objectdef] [--image-opts | -f fmt] filename bitmap",
        [
            .. Actions, Granularity, SourceFile, SourceFormat, Option.Object, Option.ImageOpts, Option.Format,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        (Option Option, string Value)[] actions = [.. arguments.Given.Where(given => Actions.Contains(given.Option))];
        if (actions.Length == 0)
            throw new ToolException("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        if (arguments.Has(Granularity) && !arguments.Has(Add))
            throw new ToolException("granularity only supported with --add");
        if (arguments.Has(SourceFile) && !arguments.Has(Merge))
            throw new ToolException("Merge bitmap source file only supported with --merge");
        if (arguments.Has(SourceFormat) && !arguments.Has(SourceFile))
            throw new ToolException("-F only supported with -b");
        if (arguments.Names is not [var image, var name]) throw new ToolException("Expecting filename and bitmap name");
        int? granularity = arguments.Text(Granularity) is { } text
            ? (int)Tool.Size("granularity", text, 1, int.MaxValue) : null;
        BlockDriver node = tool.Open(arguments, image, new ImageOpening { IsWritable = true, IsAlone = true });
        BlockDriver source = arguments.Text(SourceFile) is { } file
            ? tool.Open(file, new ImageOpening(arguments.Text(SourceFormat)) { IsAlone = true }) : node;
        foreach ((Option action, string value) in actions)
            try { Act(node, source, action, name, value, granularity); }
            catch (Exception e) when (e is BlockException or ConfigurationException)
            {
                throw new ToolException($"Operation {action.Long} on bitmap {name} failed: {e.Message}");
            }
        await node.FlushAsync().ConfigureAwait(false);
        return 0;
    }

    static void Act(BlockDriver node, BlockDriver source, Option action, string name, string value, int? granularity)
    {
        const int least = 512;
        if (action == Add)
        {
            if (granularity is { } bytes && (bytes < least || (bytes & (bytes - 1)) != 0))
                throw new ConfigurationException("Granularity must be power of 2 and at least 512");
            if (node is not IBitmaps image)
                throw new ConfigurationException($"Can't store persistent bitmaps to {node.NodeName}: Operation not " +
                    "supported");
            if (image.Bitmaps.Any(b => b.Name == name))
                throw new ConfigurationException($"Bitmap already exists: {name}");
            image.AddBitmap(name, granularity);
            return;
        }
        IBitmap bitmap = Find(node, name);
        if (action == Remove) ((IBitmaps)node).RemoveBitmap(bitmap);
        else if (bitmap.IsInconsistent)
            throw new ConfigurationException($"Bitmap '{name}' is inconsistent and cannot be used");
        else if (action == Clear) bitmap.Clear();
        else if (action == Merge) bitmap.Join(Find(source, value));
        else bitmap.IsEnabled = action == Enable;
    }

    static IBitmap Find(BlockDriver node, string name) =>
        (node as IBitmaps)?.Bitmaps.FirstOrDefault(b => b.Name == name)
            ?? throw new ConfigurationException($"Dirty bitmap '{name}' not found");
}
