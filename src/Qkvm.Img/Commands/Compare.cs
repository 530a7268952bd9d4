using Qkvm.Core.Block;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Commands;

/// <summary>compare: whether two images are the same disk.</summary>
static class Compare
{
    const int Different = 1, CannotOpen = 2;
    const int Piece = 1 << 20, SectorSize = 512;

    static readonly Option SecondFormat = Option.BackingFormat, Strict = new('s', "strict");

    public static readonly Subcommand Command = new("compare",
        "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2",
        [
            Option.Object, Option.ImageOpts, Option.Format, SecondFormat, Option.SourceCache, Option.Progress,
            Progress.Json, Option.Quiet, Strict, Option.ForceShare,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        if (arguments.Names is not [var first, var second])
            throw new ToolException("Expecting two image file names", hasHint: true);
        BlockDriver a, b;
        try
        {
            CacheMode cache = tool.Cache(arguments, Option.SourceCache, "writeback", "source cache option");
            a = tool.Open(arguments, first, new ImageOpening { Cache = cache });
            b = tool.Open(second, new ImageOpening(arguments.Text(SecondFormat))
            {
                Cache = cache, ForceShare = arguments.Has(Option.ForceShare),
            }, arguments.Has(Option.ImageOpts));
        }
        catch (Exception e) when (e is ConfigurationException or ToolException)
        {
            throw new ToolException(e.Message, CannotOpen);
        }
        bool isStrict = arguments.Has(Strict);
        if (isStrict && a.Length != b.Length)
        {
            tool.Say("Strict mode: Image size mismatch!\n");
            return Different;
        }
        using var progress = new Progress(tool, arguments, Math.Max(a.Length, b.Length));
        progress.Report(0);
        long common = Math.Min(a.Length, b.Length), end = Math.Max(a.Length, b.Length);
        string? mismatch = await FindAsync(a, b, 0, common, isStrict, progress).ConfigureAwait(false);
        if (mismatch == null && common < end)
        {
            tool.Say("Warning: Image size mismatch!\n");
            mismatch = await FindAsync(a, b, common, end, isStrict, progress).ConfigureAwait(false);
        }
        progress.Report(1);
        tool.Say(mismatch ?? "Images are identical.\n");
        progress.End();
        return mismatch == null ? 0 : Different;
    }

    static async Task<string?> FindAsync(BlockDriver a, BlockDriver b, long start, long end, bool isStrict,
        Progress progress)
    {
        byte[] left = new byte[Piece], right = new byte[Piece];
        for (long at = start; at < end;)
        {
            BlockStatus one = await StatusAsync(a, at, end - at).ConfigureAwait(false);
            BlockStatus other = await StatusAsync(b, at, end - at).ConfigureAwait(false);
            long run = Math.Min(one.Length, other.Length);
            // QEMU's flags also tell of a run that it reaches the end.
            if (isStrict && (one.IsAllocated != other.IsAllocated || one.IsZero != other.IsZero
                || one.IsData != other.IsData || at + one.Length == end != (at + other.Length == end)))
                return $"Strict mode: Offset {at} block status mismatch!\n";
            if (!(one.IsZero && other.IsZero))
            {
                run = Math.Min(run, Piece);
                long found = await DifferenceAsync(a, b, one, other, at, (int)run, left, right).ConfigureAwait(false);
                if (found >= 0) return $"Content mismatch at offset {found}!\n";
            }
            at += run;
            progress.Report((double)at / end);
        }
        return null;
    }

    /// <summary>Past its end a disk goes on in zeros.</summary>
    static async ValueTask<BlockStatus> StatusAsync(BlockDriver node, long at, long length)
    {
        if (at >= node.Length) return BlockStatus.Zero(length, isAllocated: false);
        return (await ChainStatus.OfImageAsync(node, at, Math.Min(length, node.Length - at))
            .ConfigureAwait(false)).Status;
    }

    static async Task<long> DifferenceAsync(BlockDriver a, BlockDriver b, BlockStatus one, BlockStatus other, long at,
        int length, byte[] left, byte[] right)
    {
        await ReadAsync(a, one, at, left.AsMemory(0, length)).ConfigureAwait(false);
        await ReadAsync(b, other, at, right.AsMemory(0, length)).ConfigureAwait(false);
        int same = left.AsSpan(0, length).CommonPrefixLength(right.AsSpan(0, length));
        return same == length ? -1 : at + same / SectorSize * SectorSize;
    }

    static async ValueTask ReadAsync(BlockDriver node, BlockStatus status, long at, Memory<byte> data)
    {
        if (status.IsZero) data.Span.Clear();
        else await node.ReadAsync(at, new ScatterList(data)).ConfigureAwait(false);
    }
}
