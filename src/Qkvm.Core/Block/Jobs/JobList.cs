using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Block.Jobs;

/// <summary>The machine's jobs, by their ids. Under the machine lock.</summary>
/// <param name="post">Runs an action on the main loop under the machine lock.</param>
public sealed class JobList(Action<Action> post)
{
    readonly List<Job> _all = [];

    /// <summary>The newest first.</summary>
    public IReadOnlyList<Job> All => _all;

    /// <summary>Something that monitors hear of.</summary>
    public event Action<MachineEvent>? Happened;

    /// <summary>The machine ends, and nobody runs posted work any more.</summary>
    internal bool IsEnding { get; private set; }

    /// <summary>null: there is none.</summary>
    public Job? Find(string id) => _all.Find(job => job.Id == id);

    /// <exception cref="CommandException">The id is no id, or taken.</exception>
    public void CheckId(string id)
    {
        if (!Identifier.IsWellFormed(id)) throw new CommandException($"Invalid job ID '{id}'");
        if (Find(id) != null) throw new CommandException($"Job ID '{id}' already in use");
    }

    /// <summary>Makes it one of the machine's, and lets it run.</summary>
    public void Start(Job job)
    {
        CheckId(job.Id);
        _all.Insert(0, job);
        job.Start(this);
    }

    /// <summary>Ends all of them: the machine ends. Not under the machine lock.</summary>
    public void Kill()
    {
        IsEnding = true;
        foreach (Job job in _all) job.Kill();
    }

    public void Post(Action action) => post(action);

    internal void Raise(MachineEvent happened) => Happened?.Invoke(happened);

    internal void Remove(Job job)
    {
        _all.Remove(job);
        job.Dispose();
    }
}
