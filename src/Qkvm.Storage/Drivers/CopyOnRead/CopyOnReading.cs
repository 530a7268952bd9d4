using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.CopyOnRead;

/// <summary>An image takes what it has not itself, and what was asked for, from what it lies over.</summary>
static class CopyOnReading
{
    const int Unit = 64 << 10;                                     // bytes: no smaller pieces are worth a write

    /// <param name="bottom">The lowest image whose bytes are taken; null: of any.</param>
    public static async ValueTask PullAsync(BlockDriver image, BlockDriver? bottom, long offset, long length)
    {
        if (image is not IOverlay overlay || image.IsReadOnly || image.Below == null) return;
        long end = Math.Min((offset + length + Unit - 1) / Unit * Unit, image.Length);
        for (long at = offset / Unit * Unit; at < end;)
        {
            BlockStatus status = await image.StatusAsync(at, end - at).ConfigureAwait(false);
            long run = status.Length;
            if (!status.IsAllocated && image.Below is { } below && at < below.Length)
            {
                status = await ChainStatus.AboveAsync(below, bottom?.Below, at, Math.Min(run, below.Length - at))
                    .ConfigureAwait(false);
                run = status.Length;
                if (status is { IsAllocated: true, IsZero: false })
                    await overlay.PullAsync(at, run).ConfigureAwait(false);
            }
            at += run;
        }
    }
}
