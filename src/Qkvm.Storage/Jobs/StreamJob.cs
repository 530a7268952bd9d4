using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>block-stream: an image takes in what it lies over, down to a base, and lies over that.</summary>
/// <param name="end">The base; null: it lies over nothing.</param>
sealed class StreamJob(StreamRequest request, BlockGraph graph, BlockDriver image, BlockDriver? end)
    : CopyJob(JobType.Stream, request.Job, request.Errors)
{
    readonly IOverlay _overlay = BlockGraph.OverlayOf(image);

    /// <summary>Before it starts, while the graph stands still.</summary>
    public async ValueTask PrepareAsync()
    {
        await OpenAsync(image).ConfigureAwait(false);
        Use(image, BlockGraph.JobTarget, BlockRights.ConsistentRead | BlockRights.WriteUnchanged);
    }

    protected override async Task RunAsync()
    {
        Expect(image.Length);
        for (long offset = 0; offset < image.Length;)
        {
            long length = image.Length - offset;
            bool isBelow = false;
            await TryAsync(async () =>
            {
                BlockStatus status = await image.StatusAsync(offset, length).ConfigureAwait(false);
                length = status.Length;
                isBelow = !status.IsAllocated && image.Below is { } below && below != end
                    && offset < below.Length;
                if (!isBelow) return;
                status = await ChainStatus.AboveAsync(image.Below!, end, offset,
                    Math.Min(length, image.Below!.Length - offset)).ConfigureAwait(false);
                length = status.Length;
                // without a base, what has no bytes of its own reads as zeros
                isBelow = status.IsAllocated && (end != null || !status.IsZero);
            }).ConfigureAwait(false);
            if (isBelow)
            {
                length = Math.Min(length, Piece);
                await TryAsync(() => _overlay.PullAsync(offset, length)).ConfigureAwait(false);
                await SpendAsync(length).ConfigureAwait(false);
            }
            else Advance(length);
            offset += length;
        }
    }

    protected override ValueTask CommitAsync() => graph.ChangeAsync(async () =>
    {
        if (image.Below != end)
            await BlockGraph.RebaseAsync(image, end, request.BackingFile).ConfigureAwait(false);
    });

    protected override ValueTask CleanAsync(bool hasFailed) => graph.ChangeAsync(() =>
    {
        EndUse();
        return CloseAsync(image);
    });
}
