using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>block-commit of images that nobody writes to: what they have goes into a base, and the image over them lies
/// over that.</summary>
/// <param name="above">The image over the top.</param>
sealed class CommitJob(CommitRequest request, BlockGraph graph, BlockDriver above, BlockDriver top, BlockDriver target)
    : CopyJob(JobType.Commit, request.Job, request.Errors)
{
    /// <summary>Before it starts, while the graph stands still.</summary>
    public async ValueTask PrepareAsync()
    {
        BlockGraph.OverlayOf(above);
        await OpenBaseAsync(target, top).ConfigureAwait(false);
        Use(top, BlockGraph.JobSource, BlockRights.ConsistentRead);
        Use(target, BlockGraph.JobTarget, BlockRights.ConsistentRead | BlockRights.Write);
    }

    protected override async Task RunAsync()
    {
        Expect(top.Length);
        var buffer = new byte[Piece];
        for (long offset = 0; offset < top.Length;)
        {
            BlockStatus status = default;
            await TryAsync(async () => status = await ChainStatus.AboveAsync(top, target, offset, top.Length - offset)
                .ConfigureAwait(false)).ConfigureAwait(false);
            long length = status.Length;
            if (status.IsAllocated)
            {
                length = Math.Min(length, Piece);
                await TryAsync(() => CopyAsync(top, target, offset, buffer.AsMemory(0, (int)length)))
                    .ConfigureAwait(false);
                await SpendAsync(length).ConfigureAwait(false);
            }
            else Advance(length);
            offset += length;
        }
        await TryAsync(() => new ValueTask(target.FlushAsync().AsTask())).ConfigureAwait(false);
    }

    protected override ValueTask CommitAsync() => graph.ChangeAsync(() =>
    {
        EndUse();
        return BlockGraph.RebaseAsync(above, target, request.BackingFile);
    });

    protected override ValueTask CleanAsync(bool hasFailed) => graph.ChangeAsync(() =>
    {
        EndUse();
        BlockGraph.Restore(target);
        return CloseAsync(target);
    });
}
