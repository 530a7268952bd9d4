using Qkvm.Core.Machine;

namespace Qkvm.Core.Block.Jobs;

/// <param name="Id">Empty where the device's name is to be taken.</param>
/// <param name="AutoFinalize">It does not wait to be finalized.</param>
/// <param name="AutoDismiss">It goes by itself when it has concluded.</param>
/// <param name="Speed">Bytes a second; 0: no limit.</param>
public sealed record JobOptions(string Id, bool AutoFinalize = true, bool AutoDismiss = true, long Speed = 0);

/// <summary>Work beside the guest that can be paused, cancelled and waited for.</summary>
/// <remarks>Its work runs on worker threads. All public members are called under the machine lock, and changes of the
/// status happen there.</remarks>
public abstract partial class Job(JobType type, JobOptions options) : IDisposable
{
    readonly CancellationTokenSource _cancelled = new();
    readonly SemaphoreSlim _woken = new(0, 1);
    JobList? _list;
    long _current, _total, _speed = options.Speed;
    bool _isPausedByUser, _completes, _isSoftlyCancelled;
    volatile TaskCompletionSource? _pause;                         // set while it is to pause
    Task _life = Task.CompletedTask;
    JobGroup? _group;

    public string Id => options.Id;
    public JobType Type => type;
    public JobStatus Status { get; private set; }
    /// <summary>Which it ends with; null: alone. Set before it starts.</summary>
    public JobGroup? Group
    {
        set
        {
            _group = value;
            value?.Add(this);
        }
    }

    public bool AutoFinalize => options.AutoFinalize;
    public bool AutoDismiss => options.AutoDismiss;

    /// <summary>query-block-jobs lists it, and it has events of its own.</summary>
    public virtual bool IsBlockJob => true;

    /// <summary>Null: nothing has failed.</summary>
    public string? Error { get; private set; }

    /// <summary>An error of a disk has stopped it.</summary>
    public bool IsStopped { get; protected set; }

    public long Current => Volatile.Read(ref _current);
    public long Total => Volatile.Read(ref _total);
    public long Speed => Volatile.Read(ref _speed);
    public bool IsPaused => _pause != null;
    public bool IsReady => Status is JobStatus.Ready or JobStatus.Standby;

    /// <summary>It works at the moment.</summary>
    public bool IsBusy => Status is JobStatus.Running && !IsPaused;

    // What users ask

    public void Pause()
    {
        Check(JobVerb.Pause);
        if (_isPausedByUser) throw new CommandException("Job is already paused");
        _isPausedByUser = true;
        _pause ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Wake();
    }

    public void Resume()
    {
        Check(JobVerb.Resume);
        if (!_isPausedByUser) throw new CommandException("Can't resume a job that was not paused");
        Unpause();
    }

    /// <param name="force">A job that is ready stops at once; else it ends as if it had no more to do.</param>
    public void Cancel(bool force)
    {
        Check(JobVerb.Cancel);
        _isSoftlyCancelled = !force && IsReady;
        if (!_isSoftlyCancelled) _cancelled.Cancel();
        Unpause();
        Wake();
        if (Status is JobStatus.Waiting or JobStatus.Pending) _ = EndAsync(new OperationCanceledException());
    }

    public void SetSpeed(long speed)
    {
        Check(JobVerb.SetSpeed);
        if (speed < 0) throw new CommandException("Parameter 'speed' expects a non-negative value");
        Volatile.Write(ref _speed, speed);
    }

    public void Complete()
    {
        Check(JobVerb.Complete);
        if (IsPaused || _isSoftlyCancelled)
            throw new CommandException($"The active block job '{Id}' cannot be completed");
        _completes = true;
        Wake();
    }

    public void FinalizeNow()
    {
        Check(JobVerb.Finalize);
        if (_group != null) _group.FinalizeAll();
        else _ = FinalizeAsync();
    }

    public void Dismiss()
    {
        Check(JobVerb.Dismiss);
        Set(JobStatus.Null);
        _list!.Remove(this);
    }

    void Check(JobVerb verb)
    {
        if (!Status.Takes(verb)) throw new CommandException($"Job '{Id}' in state '{JobStates.Name(Status)}' cannot "
            + $"accept command verb '{JobStates.Name(verb)}'");
    }

    public void Dispose()
    {
        _cancelled.Dispose();
        _woken.Dispose();
        GC.SuppressFinalize(this);
    }
}
