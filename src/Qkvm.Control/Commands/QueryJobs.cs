using System.Text.Json.Serialization;
using Qkvm.Core.Block.Jobs;

namespace Qkvm.Control.Commands;

/// <summary>Work that goes on beside the guest.</summary>
public sealed record JobInfo(string Id, JobType Type, JobStatus Status, long CurrentProgress, long TotalProgress,
    string? Error)
{
    public static JobInfo Of(Job job) => new(job.Id, job.Type, job.Status, job.Current, job.Total, job.Error);
}

/// <param name="Device">The job's id.</param>
/// <param name="IoStatus">"ok", or "failed" where an error of a disk has stopped it.</param>
public sealed record BlockJobInfo(JobType Type, string Device, long Len, long Offset, bool Busy, bool Paused,
    long Speed, string IoStatus, bool Ready, JobStatus Status, bool AutoFinalize, bool AutoDismiss, string? Error)
{
    public static BlockJobInfo Of(Job job) => new(job.Type, job.Id, job.Total, job.Current, job.IsBusy, job.IsPaused,
        job.Speed, job.IsStopped ? "failed" : "ok", job.IsReady, job.Status, job.AutoFinalize, job.AutoDismiss,
        job.Error);
}

/// <summary>query-jobs and query-block-jobs.</summary>
static class QueryJobs
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<JobInfo>>("query-jobs",
        JobsJson.Default, static (context, _) => [.. context.Host.BlockJobs.Jobs.All.Select(JobInfo.Of)]);

    public static readonly Command Block = new Command<Nothing, IReadOnlyList<BlockJobInfo>>("query-block-jobs",
        JobsJson.Default, static (context, _) =>
            [.. context.Host.BlockJobs.Jobs.All.Where(job => job.IsBlockJob).Select(BlockJobInfo.Of)])
    {
        Human = new("info block-jobs", "", "show progress of ongoing block device operations", null,
            static (monitor, all) =>
            {
                if (all.Count == 0) monitor.Write("No active jobs\n");
                foreach (BlockJobInfo job in all)
                    monitor.Write((job.Type == JobType.Stream ? $"Streaming device {job.Device}"
                        : $"Type {JobNames.Of(job.Type)}, device {job.Device}")
                        + $": Completed {job.Offset} of {job.Len} bytes, speed limit {job.Speed} bytes/s\n");
            }),
    };
}

[JsonSerializable(typeof(IReadOnlyList<JobInfo>))]
[JsonSerializable(typeof(IReadOnlyList<BlockJobInfo>))]
sealed partial class JobsJson : JsonSerializerContext;
