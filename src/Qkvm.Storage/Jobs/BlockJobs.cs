using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>Starts jobs: checks what was asked, and holds back the disk's users until the job follows them.</summary>
/// <param name="drivers">What blockdev-create can name.</param>
public sealed partial class BlockJobs(BlockGraph graph, JobList jobs, Catalogue<BlockDriverModel> drivers) : IBlockJobs
{
    const int MinGranularity = 512, MaxGranularity = 64 << 20;

    public JobList Jobs => jobs;

    public BlockDriver Find(string name) => graph.Find(name);

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
