using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>resize: moves the end of the disk.</summary>
static class Resize
{
    const int SectorSize = 512;

    static readonly Option PreallocationOption = new('\0', "preallocation", true), Shrink = new('\0', "shrink");

    public static readonly Subcommand Command = new("resize",
        "[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size",
        [Option.Object, Option.ImageOpts, Option.Format, PreallocationOption, Option.Quiet, Shrink], RunAsync)
    {
        EndsWithSize = true,
    };

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        Preallocation preallocation = arguments.Text(PreallocationOption) is not { } mode ? Preallocation.Off
            : Enum.TryParse(mode, true, out Preallocation known) && mode.All(char.IsAsciiLetterLower) ? known
            : throw new ToolException($"Invalid preallocation mode '{mode}'");
        string name = tool.OneImage(arguments), text = arguments.Size!;
        int sign = text.StartsWith('+') ? 1 : text.StartsWith('-') ? -1 : 0;
        if (!Sizes.TryParse(sign == 0 ? text : text[1..], 1, out ulong size) || size > long.MaxValue)
            throw new ToolException("""
                Parameter 'size' expects a non-negative number below 2^64
                Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-
                and exabytes, respectively.
                """);
        BlockDriver node = tool.Open(arguments, name, new ImageOpening { IsWritable = true });
        Int128 wanted = sign == 0 ? size : node.Length + sign * (Int128)size;
        if (wanted <= 0) throw new ToolException("New image size must be positive");
        if (wanted > long.MaxValue - SectorSize) throw new ToolException("Image size is too large");
        long total = ((long)wanted + SectorSize - 1) / SectorSize * SectorSize;
        if (total <= node.Length && preallocation != Preallocation.Off)
            throw new ToolException("Preallocation can only be used for growing images");
        if (total < node.Length && !arguments.Has(Shrink))
            throw new ToolException("Use the --shrink option to perform a shrink operation.",
                "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing " +
                    "such an operation, make sure there is no important data there.");
        if (node.Length != total) await node.ResizeAsync(total, preallocation).ConfigureAwait(false);
        await node.FlushAsync().ConfigureAwait(false);
        tool.Say("Image resized.\n");
        return 0;
    }
}
