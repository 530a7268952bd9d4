using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;
using Qkvm.Storage.Images;

namespace Qkvm.Storage.Jobs;

/// <summary>What changes the chain that a disk lies over.</summary>
public sealed partial class BlockJobs
{
    public ValueTask CommitAsync(CommitRequest request)
    {
        BlockDriver device = graph.Find(request.Device);
        JobOptions options = Checked(request.Job, request.Device, device);
        BlockDriver top = request.Top == null ? device : graph.Find(request.Top);
        BlockDriver? above = BlockGraph.Above(device, top);
        BlockDriver end = request.Base == null ? BlockGraph.Chain(top).Last() : graph.Find(request.Base);
        if (end == top) throw new CommandException("cannot commit an image into itself");
        BlockGraph.Above(top, end);
        request = request with { Job = options };
        if (above != null)
        {
            var job = new CommitJob(request, graph, above, top, end);
            return StartAsync(job, [end, top], job.PrepareAsync);
        }
        if (request.BackingFile != null)
            throw new CommandException("'backing-file' specified, but 'top' is the active layer");
        var active = new MirrorJob(JobType.Commit, new MirrorRequest(options, request.Device, end.NodeName,
            CopyScope.Full, Errors: request.Errors), graph, top, end, end);
        return StartAsync(active, [top, end], active.PrepareAsync);
    }

    public ValueTask StreamAsync(StreamRequest request)
    {
        BlockDriver image = graph.Find(request.Device);
        request = request with { Job = Checked(request.Job, request.Device, image) };
        BlockDriver? end = request.Base == null ? null : graph.Find(request.Base);
        if (end != null) BlockGraph.Above(image, end);
        var job = new StreamJob(request, graph, image, end);
        return StartAsync(job, [image], job.PrepareAsync);
    }

    public async ValueTask<BlockSnapshot> DeleteSnapshotAsync(string device, string? id, string? name)
    {
        BlockDriver node = graph.Find(device);
        if (id == null && name == null) throw new CommandException("Name or id must be provided");
        if (node is not ISnapshots image)
            throw new CommandException("Failed to get a snapshot list: Operation not supported");
        BlockSnapshot found = node.Facts.Snapshots?.FirstOrDefault(one => (id == null || one.Id == id)
            && (name == null || one.Name == name)) ?? throw new CommandException($"Snapshot with id '{id ?? "null"}' "
                + $"and name '{name ?? "null"}' does not exist on device '{device}'");
        await graph.ChangeAsync(async () =>
        {
            Action resume = await BlockGraph.PauseAsync([node]).ConfigureAwait(false);
            try { await image.DeleteSnapshotAsync(found.Id).ConfigureAwait(false); }
            finally { resume(); }
        }).ConfigureAwait(false);
        return found;
    }

    public ValueTask CommitNowAsync(string device)
    {
        const int ENotSup = 95, EBusy = 16;
        BlockDriver top = graph.Find(device);
        if (top.Below is not { } target) throw new BlockException("Operation not supported", ENotSup);
        if (BlockGraph.JobOver(target) != null) throw new BlockException("Device or resource busy", EBusy);
        IOverlay overlay = BlockGraph.OverlayOf(top);
        return graph.ChangeAsync(async () =>
        {
            Action resume = await BlockGraph.PauseAsync([top, target]).ConfigureAwait(false);
            bool wasReadOnly = target.IsReadOnly;
            try
            {
                await target.SetReadOnlyAsync(false).ConfigureAwait(false);
                BlockGraph.Relax(target);
                await ChainCopy.CommitAsync(top, target).ConfigureAwait(false);
                await overlay.MakeEmptyAsync().ConfigureAwait(false);
                await top.FlushAsync().ConfigureAwait(false);
            }
            finally
            {
                BlockGraph.Restore(target);
                if (wasReadOnly) await target.SetReadOnlyAsync(true).ConfigureAwait(false);
                resume();
            }
        });
    }

    public ValueTask ChangeBackingAsync(string device, string image, string file)
    {
        BlockDriver top = graph.Find(device), node = graph.Find(image);
        BlockGraph.Above(top, node);
        IOverlay overlay = BlockGraph.OverlayOf(node);
        if (node.Below is not { } below)
            throw new CommandException($"'{image}' does not have a backing file");
        return graph.ChangeAsync(async () =>
        {
            Action resume = await BlockGraph.PauseAsync([node]).ConfigureAwait(false);
            bool wasReadOnly = node.IsReadOnly;
            try
            {
                await node.SetReadOnlyAsync(false).ConfigureAwait(false);
                await overlay.ChangeBackingAsync(file, below.FormatName).ConfigureAwait(false);
            }
            finally
            {
                if (wasReadOnly) await node.SetReadOnlyAsync(true).ConfigureAwait(false);
                resume();
            }
        });
    }
}
