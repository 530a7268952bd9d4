using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Block.Jobs;

[JsonConverter(typeof(NamedEnum<JobType>))]
public enum JobType { Commit, Stream, Mirror, Backup, Create, Amend }

/// <summary>What a job is about, as QMP tells it.</summary>
[JsonConverter(typeof(NamedEnum<JobStatus>))]
public enum JobStatus
{
    Undefined,
    Created,
    Running,
    Paused,
    /// <summary>It follows what is written, and can be completed.</summary>
    Ready,
    /// <summary>Paused while ready.</summary>
    Standby,
    /// <summary>Its work is done.</summary>
    Waiting,
    /// <summary>It waits to be finalized.</summary>
    Pending,
    /// <summary>It failed or was cancelled, and cleans up.</summary>
    Aborting,
    /// <summary>It waits to be dismissed.</summary>
    Concluded,
    /// <summary>It has gone.</summary>
    Null,
}

/// <summary>What users ask of a job.</summary>
public enum JobVerb { Cancel, Pause, Resume, SetSpeed, Complete, Finalize, Dismiss }

static class JobStates
{
    /// <summary>Whether a job takes it now.</summary>
    public static bool Takes(this JobStatus status, JobVerb verb) => verb switch
    {
        JobVerb.Complete => status == JobStatus.Ready,
        JobVerb.Finalize => status == JobStatus.Pending,
        JobVerb.Dismiss => status == JobStatus.Concluded,
        JobVerb.Cancel => status is >= JobStatus.Created and <= JobStatus.Pending,
        _ => status is >= JobStatus.Created and <= JobStatus.Standby,
    };

    public static string Name(JobVerb verb) =>
        verb == JobVerb.SetSpeed ? "set-speed" : verb.ToString().ToLowerInvariant();

    public static string Name(JobStatus status) => status.ToString().ToLowerInvariant();
}
