using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Storage.Graph;

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
        BlockDriver source = graph.Find(request.Device), target = graph.Find(request.Target);
        request = request with { Job = Checked(request.Job, request.Device, source) };
        if (source == target) throw new CommandException("Can't mirror node into itself");
        if (request.Granularity is { } bytes && (bytes is < MinGranularity or > MaxGranularity
            || !int.IsPow2(bytes)))
            throw new CommandException(bytes is < MinGranularity or > MaxGranularity
                ? "Parameter 'granularity' expects a value in range [512B, 64MB]"
                : "Parameter 'granularity' expects a power of 2");
        CheckTarget(source, target);
        if (request.Replaces is { } replaced) graph.Find(replaced);
        BlockDriver? above = request.Scope == CopyScope.Top ? source.Below : null;
        if (request.Scope == CopyScope.Top && above == null) request = request with { Scope = CopyScope.Full };
        var job = new MirrorJob(JobType.Mirror, request, graph, source, target, above);
        return StartAsync(job, [source], job.PrepareAsync);
    }

    public ValueTask CreateAsync(string jobId, Options options)
    {
        jobs.CheckId(jobId);
        jobs.Start(CreateJob.Make(jobId, options, graph, drivers));
        return default;
    }

    public ValueTask TransactAsync(IReadOnlyList<BlockAction> actions)
    {
        var transaction = new BlockTransaction(this, graph);
        transaction.Prepare(actions);
        return RunAsync(transaction);
    }

    async ValueTask RunAsync(BlockTransaction transaction)
    {
        await graph.ChangeAsync(transaction.RunAsync).ConfigureAwait(false);
        foreach (Job job in transaction.Jobs) await StartOnLoopAsync(job).ConfigureAwait(false);
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

    internal BackupJob Backup(BackupRequest request)
    {
        BlockDriver source = graph.Find(request.Device), target = graph.Find(request.Target);
        request = request with { Job = Checked(request.Job, request.Device, source) };
        if (source == target) throw new CommandException("Source and target cannot be the same");
        CheckTarget(source, target);
        IBitmap? bitmap = request.Bitmap is { } name ? BlockTransaction.FindBitmap(source, name) : null;
        if (request.Scope == CopyScope.Bitmap && bitmap == null)
            throw new CommandException("must provide a valid bitmap name for 'incremental' sync mode");
        if (bitmap is { IsInconsistent: true })
            throw new CommandException($"Bitmap '{bitmap.Name}' is inconsistent and cannot be used");
        if (bitmap is { IsBusy: true })
            throw new CommandException($"Bitmap '{bitmap.Name}' is currently in use by another operation and cannot "
                + "be used");
        return new BackupJob(request, source, target, bitmap);
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
        if (options.Speed < 0) throw new CommandException("Invalid parameter 'speed'");
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
                    + edge.User.UserName);
        return options;
    }

    async ValueTask StartAsync(Job job, BlockDriver[] held, Func<ValueTask> prepare)
    {
        await graph.ChangeAsync(async () =>
        {
            Action resume = await BlockGraph.PauseAsync(held).ConfigureAwait(false);
            try { await prepare().ConfigureAwait(false); }
            finally { resume(); }
        }).ConfigureAwait(false);
        await StartOnLoopAsync(job).ConfigureAwait(false);
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
