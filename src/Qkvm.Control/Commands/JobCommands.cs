using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

public sealed record JobArguments(string Id);

/// <param name="Device">The job's id.</param>
public sealed record BlockJobArguments(string Device);

public sealed record BlockJobCancelArguments(string Device, bool Force = false);

/// <param name="Speed">Bytes a second; 0: no limit.</param>
public sealed record BlockJobSpeedArguments(string Device, long Speed);

/// <summary>What is asked of jobs that run: job-… of any, block-job-… of those that work on disks.</summary>
static class JobCommands
{
    public static readonly Command[] All =
    [
        Verb("pause", static job => job.Pause()), Verb("resume", static job => job.Resume()),
        Verb("cancel", static job => job.Cancel(force: true)), Verb("complete", static job => job.Complete()),
        Verb("finalize", static job => job.FinalizeNow()), Verb("dismiss", static job => job.Dismiss()),
        BlockVerb("pause", static job => job.Pause(), "pause an active background block operation"),
        BlockVerb("resume", static job => job.Resume(), "resume a paused background block operation"),
        BlockVerb("complete", static job => job.Complete(), "stop an active background block operation"),
        BlockVerb("finalize", static job => job.FinalizeNow(), isId: true),
        BlockVerb("dismiss", static job => job.Dismiss(), isId: true),
        Cancel, SetSpeed,
    ];

    static Command Cancel => new Command<BlockJobCancelArguments, Nothing>("block-job-cancel", JobCommandsJson.Default,
        static (context, arguments) =>
        {
            Job job = BlockJob(context, arguments.Device);
            if (job.IsPaused && !arguments.Force)
                throw new CommandException($"The block job for device '{job.Id}' is currently paused");
            job.Cancel(arguments.Force);
            return Nothing.Value;
        })
    {
        Human = new("block_job_cancel", "[-f] device", "stop an active background block operation (use -f\n"
            + "\t\t\t if you want to abort the operation immediately\n\t\t\t instead of keep running until data is in "
            + "sync)", static words =>
            {
                bool isForced = words.Flag('f');
                return new BlockJobCancelArguments(words.Word(), isForced);
            }),
        Completes = [Completions.Drives],
    };

    static Command SetSpeed => new Command<BlockJobSpeedArguments, Nothing>("block-job-set-speed",
        JobCommandsJson.Default, static (context, arguments) =>
        {
            BlockJob(context, arguments.Device).SetSpeed(arguments.Speed);
            return Nothing.Value;
        })
    {
        Human = new("block_job_set_speed", "device speed", "set maximum speed for a background block operation",
            static words => new BlockJobSpeedArguments(words.Word(), words.Speed())),
        Completes = [Completions.Drives],
    };

    static Command Verb(string name, Action<Job> act) => new Command<JobArguments, Nothing>($"job-{name}",
        JobCommandsJson.Default, (context, arguments) =>
        {
            act(context.Host.BlockJobs.Jobs.Find(arguments.Id) ?? throw new CommandException("Job not found"));
            return Nothing.Value;
        });

    /// <param name="help">Null: the human monitor does not know it.</param>
    /// <param name="isId">QMP calls the job's id so, and not a device.</param>
    static Command BlockVerb(string name, Action<Job> act, string? help = null, bool isId = false) =>
        isId
            ? new Command<JobArguments, Nothing>($"block-job-{name}", JobCommandsJson.Default, (context, arguments) =>
            {
                act(BlockJob(context, arguments.Id));
                return Nothing.Value;
            })
            : new Command<BlockJobArguments, Nothing>($"block-job-{name}", JobCommandsJson.Default,
                (context, arguments) =>
                {
                    act(BlockJob(context, arguments.Device));
                    return Nothing.Value;
                })
            {
                Human = help == null ? null : new($"block_job_{name}", "device", help,
                    static words => new BlockJobArguments(words.Word())),
                Completes = [Completions.Drives],
            };

    static Job BlockJob(CommandContext context, string id) =>
        context.Host.BlockJobs.Jobs.Find(id) is { IsBlockJob: true } job ? job
            : throw new CommandException($"Block job '{id}' not found", ErrorClass.DeviceNotActive);
}

static class JobNames
{
    public static string Of(JobType type) => type.ToString().ToLowerInvariant();
}

[JsonSerializable(typeof(JobArguments))]
[JsonSerializable(typeof(BlockJobArguments))]
[JsonSerializable(typeof(BlockJobCancelArguments))]
[JsonSerializable(typeof(BlockJobSpeedArguments))]
sealed partial class JobCommandsJson : JsonSerializerContext;
