using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Images;

/// <summary>Copies what images above a base have into the base, while nobody writes to them.</summary>
public static class ChainCopy
{
    const int Piece = 1 << 20;

    public static async ValueTask CommitAsync(BlockDriver top, BlockDriver target)
    {
        if (target.Length < top.Length) await target.ResizeAsync(top.Length).ConfigureAwait(false);
        var buffer = new byte[Piece];
        for (long at = 0; at < top.Length;)
        {
            BlockStatus status = await ChainStatus.AboveAsync(top, target, at, top.Length - at).ConfigureAwait(false);
            long run = status.Length;
            if (status is { IsZero: true, IsAllocated: true })
                await target.WriteZeroesAsync(at, run, mayUnmap: true).ConfigureAwait(false);
            else if (status.IsAllocated)
            {
                run = Math.Min(run, buffer.Length);
                var part = new ScatterList(buffer.AsMemory(0, (int)run));
                await top.ReadAsync(at, part).ConfigureAwait(false);
                await target.WriteAsync(at, part).ConfigureAwait(false);
            }
            at += run;
        }
        await target.FlushAsync().ConfigureAwait(false);           // before what it came from goes
    }
}
