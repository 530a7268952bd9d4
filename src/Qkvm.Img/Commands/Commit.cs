using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Img.Copying;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Commands;

/// <summary>commit: what an image changed goes into the one that it lies over.</summary>
static class Commit
{
    static readonly Option Base = Option.BackingFile, NoEmptying = new('d', "drop");

    public static readonly Subcommand Command = new("commit",
        "[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] [-d] [-p] filename",
        [
            Option.Object, Option.ImageOpts, Option.Quiet, Option.Format, Option.Cache, Base, Option.RateLimit,
            NoEmptying, Option.Progress, Progress.Json,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        long rate = arguments.Text(Option.RateLimit) is { } text ? Tool.Size("rate limit", text) : 0;
        string name = tool.OneImage(arguments);
        CacheMode cache = tool.Cache(arguments, Option.Cache, "writeback");
        bool isEmptied = !arguments.Has(NoEmptying) && !arguments.Has(Base);
        Layers layers = Layers.Open(tool, arguments, name, arguments.Text(Base), new ImageOpening { Cache = cache });
        (BlockDriver top, BlockDriver target) = (layers.Top, layers.Bottom);
        using var progress = new Progress(tool, arguments, top.Length);
        progress.Report(0);
        if (target.Length < top.Length) await target.ResizeAsync(top.Length).ConfigureAwait(false);
        var limit = new CopyLimit(rate);
        var buffer = new byte[Copier.Piece];
        for (long at = 0; at < top.Length;)
        {
            (BlockDriver? node, BlockStatus status) = await layers.FindAsync(at, top.Length - at).ConfigureAwait(false);
            long run = status.Length;
            if (status.IsZero && status.IsAllocated)
                await target.WriteZeroesAsync(at, run, mayUnmap: true).ConfigureAwait(false);
            else if (node != null)
            {
                run = Math.Min(run, buffer.Length);
                var part = new ScatterList(buffer.AsMemory(0, (int)run));
                await node.ReadAsync(at, part).ConfigureAwait(false);
                await target.WriteAsync(at, part).ConfigureAwait(false);
                await limit.SpendAsync(run).ConfigureAwait(false);
            }
            at += run;
            progress.Report((double)at / top.Length);
        }
        await target.FlushAsync().ConfigureAwait(false);           // before what it came from goes
        if (isEmptied && top is IOverlay overlay) await overlay.MakeEmptyAsync().ConfigureAwait(false);
        await top.FlushAsync().ConfigureAwait(false);
        progress.End();
        tool.Say("Image committed.\n");
        return 0;
    }
}
