using Qkvm.Core.Block;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Commands;

/// <summary>dd: copies a part of a disk into a new image.</summary>
static class Dd
{
    const int DefaultBlock = 512, MaxBuffer = 2 << 20;

    public static readonly Subcommand Command = new("dd",
        "[--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input of=output",
        [Option.Object, Option.ImageOpts, Option.ForceShare, Option.Format, Option.TargetFormat], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        string? input = null, output = null;
        long block = DefaultBlock, skip = 0;
        long? count = null;
        foreach (string operand in arguments.Names)
        {
            int equals = operand.IndexOf('=');
            string name = equals < 0 ? operand : operand[..equals], value = equals < 0 ? "" : operand[(equals + 1)..];
            switch (equals < 0 ? "" : name)
            {
                case "if": input = value; break;
                case "of": output = value; break;
                case "bs": block = Tool.Size("bs", value, 1, int.MaxValue); break;
                case "count": count = Tool.Size("count", value); break;
                case "skip": skip = Tool.Size("skip", value); break;
                default: throw new ToolException($"unrecognized operand {name}");
            }
        }
        if (input == null || output == null) throw new ToolException("Must specify both input and output files");
        BlockDriver source = tool.Open(arguments, input, new ImageOpening());
        string format = arguments.Text(Option.TargetFormat) ?? "raw";
        if (tool.Drivers.Known(format) == null) throw new ToolException("Unknown file format");
        ImageCreation creation = CreateOptions.Creation(tool, format);

        long whole = source.Length;
        if (count is { } blocks && (Int128)blocks * block < whole) whole = blocks * block;
        bool isBeyond = (Int128)skip * block > source.Length;
        long start = isBeyond ? source.Length : skip * block;
        if (count == null) whole = source.Length - start;
        else whole = Math.Min(whole, source.Length - start);
        var options = CreateOptions.Check(creation, Options.Of("dd", new OptionPair("size", $"{whole}")), "");
        try
        {
            await ImageMaker.CreateAsync(tool.Factory, creation, output, null, whole, options).ConfigureAwait(false);
        }
        catch (ConfigurationException e)
        {
            throw new ToolException($"{output}: error while creating output image: {e.Message}");
        }
        BlockDriver target = tool.Open(output, new ImageOpening(format) { IsWritable = true });
        if (isBeyond) tool.Error($"{input}: cannot skip to specified offset");
        var buffer = new byte[Math.Min(MaxBuffer, Math.Max(block, 1))];
        long end = start + whole;
        for (long at = start; at < end;)
        {
            int length = (int)Math.Min(buffer.Length, end - at);
            await source.ReadAsync(at, new ScatterList(buffer.AsMemory(0, length))).ConfigureAwait(false);
            await target.WriteAsync(at - start, new ScatterList(buffer.AsMemory(0, length))).ConfigureAwait(false);
            at += length;
        }
        await target.FlushAsync().ConfigureAwait(false);
        return 0;
    }
}
