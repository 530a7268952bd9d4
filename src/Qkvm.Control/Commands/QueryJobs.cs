using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <summary>Work that goes on beside the guest.</summary>
public sealed record JobInfo(string Id, string Type, string Status, long CurrentProgress, long TotalProgress,
    string? Error);

/// <summary>query-jobs and query-block-jobs: no command starts a job yet, so there are none.</summary>
static class QueryJobs
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<JobInfo>>("query-jobs",
        JobsJson.Default, static (_, _) => []);

    public static readonly Command Block = new Command<Nothing, IReadOnlyList<JobInfo>>("query-block-jobs",
        JobsJson.Default, static (_, _) => [])
    {
        Human = new("info block-jobs", "", "show progress of ongoing block device operations", null,
            static (monitor, _) => monitor.Write("No active jobs\n")),
    };
}

[JsonSerializable(typeof(IReadOnlyList<JobInfo>))]
sealed partial class JobsJson : JsonSerializerContext;
