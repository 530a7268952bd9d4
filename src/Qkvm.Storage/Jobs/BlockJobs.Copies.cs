using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Storage.Jobs;

/// <summary>Jobs that copy a disk to another: mirror and backup.</summary>
public sealed partial class BlockJobs
{
    public ValueTask MirrorAsync(MirrorRequest request)
    {
        BlockDriver source = graph.Find(request.Device);
        BlockDriver? target = request.Made == null ? graph.Find(request.Target) : null;
        request = request with { Job = Checked(request.Job, request.Device, source) };
        if (source == target) throw new CommandException("Can't mirror node into itself");
        if (request.Granularity is { } bytes && (bytes is < MinGranularity or > MaxGranularity
            || !int.IsPow2(bytes)))
            throw new CommandException(bytes is < MinGranularity or > MaxGranularity
                ? "Parameter 'granularity' expects a value in range [512B, 64MB]"
                : "Parameter 'granularity' expects a power of 2");
        if (target != null) CheckTarget(source, target);
        if (request is { Replaces: not null, Made.NodeName: null }) throw new CommandException(
            "a node-name must be provided when replacing a named node of the graph");
        if (request.Replaces is { } replaced) graph.Find(replaced);
        BlockDriver? above = request.Scope == CopyScope.Top ? source.Below : null;
        if (request.Scope == CopyScope.Top && above == null) request = request with { Scope = CopyScope.Full };
        return StartAsync([source], async () =>
        {
            BlockDriver copy = target ?? await MakeTargetAsync(request.Made!, request.Target, source, request.Scope)
                .ConfigureAwait(false);
            var job = new MirrorJob(JobType.Mirror, request, graph, source, copy, above);
            try { await job.PrepareAsync().ConfigureAwait(false); }
            catch when (target == null)
            {
                await graph.DropAsync(copy).ConfigureAwait(false);
                throw;
            }
            return job;
        });
    }

    /// <summary>The image that a job is to write, as drive-mirror and drive-backup make it: over what the copy does
    /// not have.</summary>
    async ValueTask<BlockDriver> MakeTargetAsync(JobTarget made, string file, BlockDriver source, CopyScope scope)
    {
        BlockDriver? below = scope switch
        {
            CopyScope.Top => source.Below,
            CopyScope.None => source,
            _ => null,
        };
        BlockDriver target = await graph.Factory.MakeImageAsync(source.Length, below, file,
            made.Format ?? (made.IsExisting ? null : source.FormatName), made.NodeName, made.IsExisting,
            made.Unmaps, hasChain: made.IsExisting).ConfigureAwait(false);
        try
        {
            CheckTarget(source, target);
            if (!made.IsExisting && below != null) BlockGraph.OverlayOf(target).SetBacking(below);
            return target;
        }
        catch
        {
            await graph.DropAsync(target).ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Under the machine lock: what can be said of it before.</summary>
    internal (BackupRequest Request, BlockDriver Source) Check(BackupRequest request)
    {
        BlockDriver source = graph.Find(request.Device);
        if (request.Made == null && graph.Find(request.Target) == source)
            throw new CommandException("Source and target cannot be the same");
        request = request with { Job = Checked(request.Job, request.Device, source) };
        if (request.Scope == CopyScope.Top && source.Below == null) request = request with { Scope = CopyScope.Full };
        return (request, source);
    }

    /// <summary>While nobody writes to the source. The bitmap may have been made just now.</summary>
    internal async ValueTask<BackupJob> BackupAsync(BackupRequest request, BlockDriver source)
    {
        IBitmap? bitmap = request.Bitmap is not { } name ? null
            : source.DirtyBitmaps.FirstOrDefault(one => one.Name == name)
                ?? throw new CommandException($"Bitmap '{name}' could not be found");
        if (bitmap is { IsInconsistent: true })
            throw new CommandException($"Bitmap '{bitmap.Name}' is inconsistent and cannot be used");
        if (bitmap is { IsBusy: true })
            throw new CommandException($"Bitmap '{bitmap.Name}' is currently in use by another operation and cannot "
                + "be used");
        BlockDriver target = request.Made is { } made
            ? await MakeTargetAsync(made, request.Target, source, request.Scope).ConfigureAwait(false)
            : graph.Find(request.Target);
        try
        {
            CheckTarget(source, target);
            return new BackupJob(request, graph, source, target, bitmap);
        }
        catch when (request.Made != null)
        {
            await graph.DropAsync(target).ConfigureAwait(false);
            throw;
        }
    }

    static void CheckTarget(BlockDriver source, BlockDriver target)
    {
        if (source.Length != target.Length)
            throw new CommandException("Source and target image have different sizes");
        foreach (BlockEdge edge in target.Edges)
            if ((edge.Use.Needs & BlockRights.Write) != 0 || (edge.Use.Forbids & BlockRights.Write) != 0)
                throw new CommandException($"Node '{target.NodeName}' is in use by {edge.User.UserName}");
    }
}
