using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Storage.Drivers.Images;

/// <summary>Looks at every block of an image: whether its entry is possible, its place inside the file, and its
/// alone.</summary>
static class ImageCheck
{
    const long MaxBlocks = 1L << 25, MaxCorruptions = 100_000;     // a hostile header can say more

    /// <param name="find">What the image says of a block; it throws where that is impossible.</param>
    /// <param name="countsClusters">The format's check says how many there are.</param>
    public static CheckResult Run(long length, int blockSize, BlockDriver file, Func<long, ImageRun> find,
        Action<string> report, bool countsClusters = false)
    {
        var places = new Dictionary<(BlockDriver, long), long>();
        long corruptions = 0, allocated = 0, total = (length + blockSize - 1) / blockSize, end = 0, next = 0,
            fragmented = 0;
        if (total > MaxBlocks) throw new BlockException($"{total} blocks are too many to check", Errno.FBig);
        for (long block = 0; block < total; block++)
        {
            ImageRun run;
            try { run = find(block * blockSize); }
            catch (BlockException e)
            {
                Wrong(e.Message);
                continue;
            }
            if (run.Kind != RunKind.Data) continue;
            BlockDriver holder = run.File ?? file;
            allocated++;
            end = Math.Max(end, run.Host + blockSize);
            if (next != 0 && run.Host != next) fragmented++;
            next = run.Host + blockSize;
            if (run.Host >= holder.Length) Wrong($"block {block} lies at 0x{run.Host:x}, beyond the end of the file");
            else if (!places.TryAdd((holder, run.Host), block))
                Wrong($"block {block} lies at 0x{run.Host:x}, as block {places[(holder, run.Host)]} does");
        }
        return new CheckResult(0, corruptions, ImageEndOffset: countsClusters && end > 0 ? end : null,
            TotalClusters: countsClusters ? total : null, AllocatedClusters: countsClusters ? allocated : null,
            FragmentedClusters: countsClusters ? fragmented : null);

        void Wrong(string what)
        {
            if (++corruptions > MaxCorruptions)
                throw new BlockException($"more than {MaxCorruptions} blocks are wrong", Errno.Io);
            report($"ERROR: {what}");
        }
    }
}
