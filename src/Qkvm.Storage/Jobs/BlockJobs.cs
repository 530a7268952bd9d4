using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Storage.Jobs;

/// <summary>Starts jobs: checks what was asked, and holds back the disk's users until the job follows them.</summary>
/// <param name="drivers">What blockdev-create can name.</param>
public sealed class BlockJobs(BlockGraph graph, JobList jobs, Catalogue<BlockDriverModel> drivers) : IBlockJobs
{
    const int MinGranularity = 512, MaxGranularity = 64 << 20;

    public JobList Jobs => jobs;

    public BlockDriver Find(string name) => graph.Find(name);

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

    public ValueTask CreateAsync(string jobId, Options options)
    {
        jobs.CheckId(jobId);
        jobs.Start(CreateJob.Make(jobId, options, graph, drivers));
        return default;
    }

    public ValueTask TransactAsync(IReadOnlyList<BlockAction> actions, bool isGrouped = false)
    {
        var transaction = new BlockTransaction(this, graph);
        transaction.Prepare(actions);
        return RunAsync(transaction, isGrouped);
    }

    async ValueTask RunAsync(BlockTransaction transaction, bool isGrouped)
    {
        await graph.ChangeAsync(transaction.RunAsync).ConfigureAwait(false);
        JobGroup? group = isGrouped ? new JobGroup() : null;
        foreach (Job job in transaction.Jobs) job.Group = group;
        foreach (Job job in transaction.Jobs) await StartOnLoopAsync(job).ConfigureAwait(false);
    }

    public ValueTask ReopenAsync(IReadOnlyList<Options> nodes)
    {
        var reopening = new BlockReopening(graph, drivers);
        reopening.Prepare(nodes);
        return graph.ChangeAsync(reopening.RunAsync);
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

    /// <summary>The job's id is the drive's where none is given.</summary>
    JobOptions Checked(JobOptions options, string device, BlockDriver node)
    {
        if (options.Speed < 0) throw new CommandException("Parameter 'speed' expects a non-negative value");
        if (options.Id.Length == 0)
            options = options with
            {
                Id = device != node.NodeName ? device
                    : throw new CommandException("An explicit job ID is required for this node"),
            };
        jobs.CheckId(options.Id);
        foreach (BlockEdge edge in node.Edges)
            if (edge.Role is BlockGraph.JobSource or BlockGraph.JobTarget)
                throw new CommandException($"Node '{device}' is busy: block device is in use by "
                    + (edge.User is Job job ? $"block job: {job.Type.ToString().ToLowerInvariant()}"
                        : edge.User.UserName));
        return options;
    }

    ValueTask StartAsync(Job job, BlockDriver[] held, Func<ValueTask> prepare) => StartAsync(held, async () =>
    {
        await prepare().ConfigureAwait(false);
        return job;
    });

    /// <param name="make">Makes the job while nobody uses the nodes that are held.</param>
    async ValueTask StartAsync(BlockDriver[] held, Func<ValueTask<Job>> make)
    {
        Job? job = null;
        await graph.ChangeAsync(async () =>
        {
            Action resume = await BlockGraph.PauseAsync(held).ConfigureAwait(false);
            try { job = await make().ConfigureAwait(false); }
            finally { resume(); }
        }).ConfigureAwait(false);
        await StartOnLoopAsync(job!).ConfigureAwait(false);
    }

    async ValueTask StartOnLoopAsync(Job job)
    {
        var started = new TaskCompletionSource();
        jobs.Post(() =>
        {
            jobs.Start(job);
            started.SetResult();
        });
        await started.Task.ConfigureAwait(false);
    }
}
