using Qkvm.Core.Block;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Commands;

/// <summary>map: where the bytes of an image and of all that lies below it are.</summary>
static class Map
{
    static readonly Option StartOffset = new('s', "start-offset", true), MaxLength = new('l', "max-length", true);

    public static readonly Subcommand Command = new("map",
        "[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] " +
            "[-U] filename",
        [
            Option.Object, Option.ImageOpts, Option.Format, StartOffset, MaxLength, Option.Output, Option.ForceShare,
        ], RunAsync);

    /// <summary>Neighbours of which all is alike are one.</summary>
    readonly record struct Extent(long Start, long Length, int Depth, BlockStatus Status)
    {
        public bool Continues(Extent next)
        {
            BlockStatus a = Status, b = next.Status;
            return Depth == next.Depth && a.IsData == b.IsData && a.IsZero == b.IsZero
                && a.IsAllocated == b.IsAllocated && a.IsCompressed == b.IsCompressed && a.HostNode == b.HostNode
                && (a.HostNode == null || a.HostOffset + Length == b.HostOffset);
        }
    }

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        bool wantsJson = tool.WantsJson(arguments);
        long start = arguments.Text(StartOffset) is { } from ? Tool.Size("start offset", from) : 0;
        long most = arguments.Text(MaxLength) is { } length ? Tool.Size("max length", length) : long.MaxValue;
        string name = tool.OneImage(arguments);
        BlockDriver node = tool.Open(arguments, name, new ImageOpening());
        TextWriter output = tool.Output;
        output.Write(wantsJson ? "[" : $"{"Offset",-16}{"Length",-16}{"Mapped to",-16}File\n");
        long end = most < node.Length - start ? start + most : node.Length;
        Extent current = default;
        bool isFirst = true;
        for (long at = start; at < end;)
        {
            (BlockStatus status, int depth) = await ChainStatus.OfImageAsync(node, at, end - at).ConfigureAwait(false);
            // What lies over nothing has all that it is asked for.
            if (!status.IsAllocated && !CanLack(tool, node, depth)) status = status with { IsAllocated = true };
            var next = new Extent(at, status.Length, depth, status);
            at += status.Length;
            if (current.Length > 0 && current.Continues(next))
            {
                current = current with { Length = current.Length + next.Length };
                continue;
            }
            if (current.Length > 0) Write(output, current, wantsJson, ref isFirst);
            current = next;
        }
        if (current.Length > 0) Write(output, current, wantsJson, ref isFirst);
        if (wantsJson) output.Write("]\n");
        return 0;
    }

    /// <summary>The format of the node at a depth of the chain has a word for what lies below.</summary>
    static bool CanLack(Tool tool, BlockDriver node, int depth)
    {
        for (; depth > 0; depth--) node = node.Below!;
        return tool.Drivers.Find(node.FormatName)?.Find("backing") != null;
    }

    static void Write(TextWriter output, Extent extent, bool asJson, ref bool isFirst)
    {
        BlockStatus status = extent.Status;
        if (asJson)
        {
            string offset = status.HostNode != null ? $", \"offset\": {status.HostOffset}" : "";
            output.Write($"{(isFirst ? "" : ",\n")}{{ \"start\": {extent.Start}, \"length\": {extent.Length}, " +
                $"\"depth\": {extent.Depth}, \"present\": {Text(status.IsAllocated)}, " +
                $"\"zero\": {Text(status.IsZero)}, \"data\": {Text(status.IsData)}{offset}}}");
            isFirst = false;
            return;
        }
        if (!status.IsData || status.IsZero) return;
        if (status.HostNode is not { } host)
            throw new ToolException("File contains external, encrypted or compressed clusters.");
        output.Write($"{Hex(extent.Start),-16}{Hex(extent.Length),-16}{Hex(status.HostOffset),-16}{host.FileName}\n");
    }

    static string Text(bool value) => value ? "true" : "false";

    /// <summary>C's %#x, in which zero has no prefix.</summary>
    static string Hex(long value) => value == 0 ? "0" : $"0x{value:x}";
}
