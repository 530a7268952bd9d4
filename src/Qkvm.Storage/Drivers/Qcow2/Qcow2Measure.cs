using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>How large an image would be: its tables as if every cluster were allocated, and the clusters that the
/// source has.</summary>
static class Qcow2Measure
{
    public static async ValueTask<Measurement> MeasureAsync(ImageMeasuring measuring, Qcow2CreateOptions options)
    {
        int bits = BitOperations.Log2((uint)options.ClusterSize);
        long size = RoundUp(measuring.Size, bits) << bits, tables = Tables(size, options, bits) << bits;
        bool isWhole = options.Preallocation is Preallocation.Falloc or Preallocation.Full;
        long data = isWhole ? size : measuring.Source is { } source
            ? await AllocatedAsync(source, bits).ConfigureAwait(false) << bits : 0;
        long? bitmaps = options.Version >= 3 && measuring.Source is IBitmaps image
            ? Bitmaps(image, measuring.Size, options, bits) : null;
        return new Measurement(tables + data, tables + size, bitmaps);
    }

    /// <summary>Clusters of header, L1 and L2 tables, refcount table and blocks.</summary>
    static long Tables(long size, Qcow2CreateOptions options, int bits)
    {
        int l2Bits = bits - (options.ExtendedL2 ? 4 : 3);
        long l2Tables = RoundUp(size, bits + l2Bits);
        if (l2Tables * 8 > Qcow2Header.MaxL1Bytes)
            throw new ConfigurationException("The image size is too large (try using a larger cluster size)");
        long fixedClusters = 1 + RoundUp(l2Tables * 8, bits) + l2Tables + RoundUp(options.CryptoLength, bits);
        int perBlockBits = bits + 3 - BitOperations.Log2((uint)options.RefcountBits);
        for (long blocks = 0, table = 0; ;)
        {
            long all = (size >> bits) + fixedClusters + blocks + table;
            long needed = RoundUp(all, perBlockBits), neededTable = RoundUp(needed * 8, bits);
            if (needed == blocks && neededTable == table) return fixedClusters + blocks + table;
            (blocks, table) = (needed, neededTable);
        }
    }

    static async ValueTask<long> AllocatedAsync(BlockDriver source, int bits)
    {
        long clusters = 0, counted = 0;                            // clusters before `counted` are
        for (long at = 0; at < source.Length;)
        {
            (BlockStatus status, _) = await ChainStatus.OfImageAsync(source, at, source.Length - at)
                .ConfigureAwait(false);
            if (status.IsData && !status.IsZero)
            {
                long first = Math.Max(at >> bits, counted), end = RoundUp(at + status.Length, bits);
                if (end > first) clusters += end - first;
                counted = Math.Max(counted, end);
            }
            at += status.Length;
        }
        return clusters;
    }

    /// <summary>The directory, and of each bitmap its table and bits.</summary>
    static long Bitmaps(IBitmaps image, long size, Qcow2CreateOptions options, int bits)
    {
        const int entrySize = 24;                                  // QEMU docs/interop/qcow2.txt, "Bitmaps"
        long bytes = 0, directory = 0;
        foreach (IBitmap bitmap in image.Bitmaps)
        {
            int granularityBits = BitOperations.Log2((uint)bitmap.Granularity);
            long data = RoundUp(RoundUp(size, granularityBits), bits + 3);
            bytes += (data + RoundUp(data * 8, bits)) << bits;
            directory += (entrySize + bitmap.Name.Length + 7) / 8 * 8;
        }
        return bytes + (RoundUp(directory, bits) << bits);
    }

    static long RoundUp(long count, int bits) => (count + (1L << bits) - 1) >> bits;
}
