using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Block.Jobs;

/// <summary>A job's life, from its start to its end, and what its work may ask of it.</summary>
public abstract partial class Job
{
    internal void Start(JobList list)
    {
        _list = list;
        Set(JobStatus.Created);
        Set(JobStatus.Running);
        _life = Task.Run(LiveAsync);
    }

    /// <summary>Stops it, and waits for it: the machine ends. Not under the machine lock, and nobody runs posted
    /// work.</summary>
    internal void Kill()
    {
        _cancelled.Cancel();
        Unpause();
        Wake();
        Task.WhenAny(_life, Task.Delay(EndTimeout)).GetAwaiter().GetResult();
    }

    const int EndTimeout = 5000;                                   // milliseconds

    async Task LiveAsync()
    {
        Exception? failure = null;
        try { await RunAsync().ConfigureAwait(false); }
        catch (Exception e) { failure = e; }
        if (_list!.IsEnding)
        {
            await TryCleanAsync(hasFailed: true).ConfigureAwait(false);
            return;
        }
        _list.Post(() => _ = EndAsync(failure));
    }

    /// <summary>The work. It asks for <see cref="PausePointAsync"/> again and again.</summary>
    protected abstract Task RunAsync();

    /// <summary>Makes what was done count: changes the graph. On a worker thread.</summary>
    protected virtual ValueTask CommitAsync() => default;

    /// <summary>Lets go of what it used. On a worker thread.</summary>
    protected virtual ValueTask CleanAsync(bool hasFailed) => default;

    Task EndAsync(Exception? failure)
    {
        if (failure == null && _cancelled.IsCancellationRequested) failure = new OperationCanceledException();
        if (failure != null) return AbortAsync(failure);
        Set(JobStatus.Waiting);
        if (_group != null)
        {
            _group.Settle();
            return Task.CompletedTask;
        }
        BecomePending();
        return AutoFinalize ? FinalizeAsync() : Task.CompletedTask;
    }

    internal void BecomePending()
    {
        Set(JobStatus.Pending);
        if (!AutoFinalize && IsBlockJob) _list!.Raise(new BlockJobPendingEvent(Type, Id));
    }

    /// <summary>Another of its group failed: it ends as if it had been cancelled.</summary>
    internal void Abandon()
    {
        _group = null;
        if (Status is JobStatus.Aborting or JobStatus.Concluded or JobStatus.Null) return;
        _cancelled.Cancel();
        Unpause();
        Wake();
        if (Status is JobStatus.Waiting or JobStatus.Pending) _ = EndAsync(new OperationCanceledException());
    }

    internal async Task FinalizeAsync()
    {
        Exception? failure = null;
        await Task.Run(async () =>
        {
            try { await CommitAsync().ConfigureAwait(false); }
            catch (Exception e) { failure = e; }
            if (failure == null) await TryCleanAsync(hasFailed: false).ConfigureAwait(false);
        }).ConfigureAwait(false);
        _list!.Post(() =>
        {
            if (failure != null) _ = AbortAsync(failure);
            else Conclude(isCancelled: false);
        });
    }

    async Task AbortAsync(Exception failure)
    {
        bool isCancelled = _cancelled.IsCancellationRequested;
        if (!isCancelled || failure is not OperationCanceledException) Error = failure.Message;
        if (isCancelled) Error ??= "Operation canceled";
        JobGroup? group = _group;
        _group = null;
        Set(JobStatus.Aborting);
        group?.Fail();
        await Task.Run(() => TryCleanAsync(hasFailed: true)).ConfigureAwait(false);
        _list!.Post(() => Conclude(isCancelled));
    }

    /// <summary>A disk that fails here, too, as one that is full does when its node is to be for reading again, holds
    /// up no end: what the job did stays as it is, and the node stays open as it is.</summary>
    async Task TryCleanAsync(bool hasFailed)
    {
        try { await CleanAsync(hasFailed).ConfigureAwait(false); }
        catch (Exception e) when (e is BlockException or ConfigurationException) { }
    }

    void Conclude(bool isCancelled)
    {
        if (IsBlockJob)
            _list!.Raise(isCancelled ? new BlockJobCancelledEvent(Type, Id, Total, Current, Speed)
                : new BlockJobCompletedEvent(Type, Id, Total, Current, Speed, Error));
        Set(JobStatus.Concluded);
        if (AutoDismiss) Dismiss();
    }

    void Set(JobStatus status)
    {
        Status = status;
        _list!.Raise(new JobStatusChangeEvent(Id, status));
    }

    // For the work, on its own threads

    protected CancellationToken Cancelled => _cancelled.Token;

    /// <summary>Somebody asked it to end what it follows: with its result, or without.</summary>
    protected bool IsAskedToEnd => _completes || _isSoftlyCancelled;

    /// <summary>It was asked to complete, not only to end.</summary>
    protected bool Completes => _completes;

    protected void Advance(long bytes) => Interlocked.Add(ref _current, bytes);

    protected void Expect(long bytes) => Interlocked.Add(ref _total, bytes);

    /// <summary>Waits while it is paused, and tells.</summary>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    protected async ValueTask PausePointAsync()
    {
        Cancelled.ThrowIfCancellationRequested();
        while (_pause is { } pause)
        {
            bool wasReady = IsReady;
            _list!.Post(() => SetFrom(wasReady ? JobStatus.Ready : JobStatus.Running,
                wasReady ? JobStatus.Standby : JobStatus.Paused));
            await pause.Task.ConfigureAwait(false);
            _list.Post(() => SetFrom(wasReady ? JobStatus.Standby : JobStatus.Paused,
                wasReady ? JobStatus.Ready : JobStatus.Running));
            Cancelled.ThrowIfCancellationRequested();
        }
    }

    void SetFrom(JobStatus before, JobStatus after)
    {
        if (Status == before) Set(after);
    }

    /// <summary>It follows what is written from now on.</summary>
    protected async ValueTask BecomeReadyAsync()
    {
        var told = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _list!.Post(() =>
        {
            Set(JobStatus.Ready);
            _list.Raise(new BlockJobReadyEvent(Type, Id, Total, Current, Speed));
            told.SetResult();
        });
        await told.Task.WaitAsync(Cancelled).ConfigureAwait(false);
    }

    /// <summary>A disk failed; with Stop it pauses until somebody resumes it.</summary>
    protected async ValueTask TellErrorAsync(bool isRead, ErrorAction action)
    {
        _list!.Post(() =>
        {
            _list.Raise(new BlockJobErrorEvent(Id, isRead ? "read" : "write", action));
            if (action != ErrorAction.Stop || !Status.Takes(JobVerb.Pause)) return;
            IsStopped = _isPausedByUser = true;
            _pause ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        });
        if (action != ErrorAction.Stop) return;
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _list.Post(done.SetResult);
        await done.Task.ConfigureAwait(false);
        await PausePointAsync().ConfigureAwait(false);
    }

    /// <summary>Sleeps until there may be something to do. Returns at once where <see cref="Wake"/> came
    /// meanwhile.</summary>
    protected Task SleepAsync(int milliseconds) => _woken.WaitAsync(milliseconds, Cancelled);

    protected void Wake()
    {
        lock (_woken)
            if (_woken.CurrentCount == 0) _woken.Release();
    }

    void Unpause()
    {
        (_isPausedByUser, IsStopped) = (false, false);
        TaskCompletionSource? pause = _pause;
        _pause = null;
        pause?.TrySetResult();
    }
}
