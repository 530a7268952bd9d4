using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Img.Copying;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>rebase: an image lies over another one from now on. What differs between the two is copied into it first,
/// unless -u says that nothing does.</summary>
static class Rebase
{
    static readonly Option Unsafe = new('u', "unsafe");

    public static readonly Subcommand Command = new("rebase",
        "[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] -b backing_file " +
            "[-F backing_fmt] filename",
        [
            Option.Object, Option.ImageOpts, Option.ForceShare, Option.Quiet, Option.Format, Option.Cache,
            Option.SourceCache, Option.Progress, Progress.Json, Unsafe, Option.BackingFile, Option.BackingFormat,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        string name = tool.OneImage(arguments);
        string? backing = arguments.Text(Option.BackingFile), format = arguments.Text(Option.BackingFormat);
        bool isUnsafe = arguments.Has(Unsafe);
        if (backing == null && !isUnsafe)
            throw new ToolException("Must specify backing file (-b) or use unsafe mode (-u)", hasHint: true);
        CacheMode cache = tool.Cache(arguments, Option.Cache, "writeback");
        CacheMode sourceCache = tool.Cache(arguments, Option.SourceCache, "writeback", "source cache option");
        BlockDriver top = tool.Open(arguments, name,
            new ImageOpening { IsWritable = true, Cache = cache, IsAlone = isUnsafe });
        if (format != null && tool.Drivers.Known(format) == null)
            throw new ToolException($"Invalid format name: '{format}'");
        string file = string.IsNullOrEmpty(backing) ? "" : backing;
        ToolException cannot(string why) => new($"Could not change the backing file to '{file}': {why}");
        if (top is not IOverlay image) throw cannot("Operation not supported");
        using var progress = new Progress(tool, arguments, top.Length);
        progress.Report(0);
        if (!isUnsafe)
        {
            BlockDriver? next = file.Length == 0 ? null : OpenNew(tool, top, file, format, sourceCache);
            if (file.Length > 0 && format == null) throw cannot("backing format must be specified");
            await CopyDifferencesAsync(top, next, progress).ConfigureAwait(false);
        }
        if (file.Length > 0 && format == null) throw cannot("backing format must be specified");
        await top.FlushAsync().ConfigureAwait(false);              // what was copied counts before the name changes
        try
        {
            await image.ChangeBackingAsync(file.Length == 0 ? null : file, file.Length == 0 ? null : format)
                .ConfigureAwait(false);
        }
        catch (Exception e) when (e is BlockException or ConfigurationException) { throw cannot(e.Message); }
        await top.FlushAsync().ConfigureAwait(false);
        progress.End();
        return 0;
    }

    static BlockDriver OpenNew(Tool tool, BlockDriver top, string file, string? format, CacheMode cache)
    {
        string full = BlockFactory.RelativeTo(top.FileName, file);
        try { return tool.Open(full, new ImageOpening(format) { Cache = cache }); }
        catch (Exception e) when (e is ConfigurationException or ToolException)
        {
            string prefix = $"Could not open '{full}': ";
            throw new ToolException($"Could not open new backing file '{file}': " +
                (e.Message.StartsWith(prefix, StringComparison.Ordinal) ? e.Message[prefix.Length..] : e.Message));
        }
    }

    static async Task CopyDifferencesAsync(BlockDriver top, BlockDriver? next, Progress progress)
    {
        BlockDriver? old = top.Below;
        byte[] before = new byte[Copier.Piece], after = new byte[Copier.Piece];
        for (long at = 0; at < top.Length;)
        {
            BlockStatus status = await top.StatusAsync(at, Math.Min(Copier.Piece, top.Length - at))
                .ConfigureAwait(false);
            int run = (int)status.Length;
            if (!status.IsAllocated && (old != null || next != null))
            {
                await ReadAsync(old, at, before.AsMemory(0, run)).ConfigureAwait(false);
                await ReadAsync(next, at, after.AsMemory(0, run)).ConfigureAwait(false);
                await WriteDifferencesAsync(top, at, before.AsMemory(0, run), after.AsMemory(0, run))
                    .ConfigureAwait(false);
            }
            at += run;
            progress.Report((double)at / top.Length);
        }
    }

    /// <summary>By whole clusters, as a cluster is what the image keeps or leaves to the one below.</summary>
    static async Task WriteDifferencesAsync(BlockDriver top, long at, Memory<byte> before, Memory<byte> after)
    {
        int cluster = top.Facts.ClusterSize ?? Copier.Piece;
        for (int start = 0; start < before.Length;)
        {
            int end = (int)Math.Min(before.Length, (at + start) / cluster * cluster + cluster - at);
            Memory<byte> part = before[start..end];
            if (!part.Span.SequenceEqual(after.Span[start..end]))
            {
                if (!part.Span.ContainsAnyExcept((byte)0))
                    await ((IOverlay)top).WriteLastingZeroesAsync(at + start, part.Length).ConfigureAwait(false);
                else await top.WriteAsync(at + start, new ScatterList(part)).ConfigureAwait(false);
            }
            start = end;
        }
    }

    static async ValueTask ReadAsync(BlockDriver? node, long at, Memory<byte> data)
    {
        int inside = node == null ? 0 : (int)Math.Clamp(node.Length - at, 0, data.Length);
        if (inside > 0) await node!.ReadAsync(at, new ScatterList(data[..inside])).ConfigureAwait(false);
        data.Span[inside..].Clear();
    }
}
