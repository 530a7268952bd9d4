namespace Qkvm.Core.Block.Jobs;

/// <summary>Jobs of which all end well or none: transaction's completion-mode grouped. Under the machine
/// lock.</summary>
public sealed class JobGroup
{
    readonly List<Job> _jobs = [];

    internal void Add(Job job) => _jobs.Add(job);

    /// <summary>One has done its work; when all have, they count.</summary>
    internal void Settle()
    {
        if (_jobs.Exists(static job => job.Status != JobStatus.Waiting)) return;
        foreach (Job job in _jobs) job.BecomePending();
        if (_jobs.TrueForAll(static job => job.AutoFinalize)) FinalizeAll();
    }

    internal void FinalizeAll()
    {
        foreach (Job job in _jobs) _ = job.FinalizeAsync();
    }

    /// <summary>One failed or was cancelled: so are the others.</summary>
    internal void Fail()
    {
        Job[] jobs = [.. _jobs];
        _jobs.Clear();
        foreach (Job job in jobs) job.Abandon();
    }
}
