namespace Qkvm.Core.Block.Throttling;

/// <summary>A disk or a node in a <see cref="ThrottleGroup"/>, with its requests that wait. From any thread.</summary>
public sealed class ThrottleMember
{
    sealed class Wait(long bytes) : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), IThrottled
    {
        public long Bytes => bytes;

        public void GoOn() => SetResult();
    }

    readonly Queue<IThrottled> _reads = new(), _writes = new();    // within the group's lock
    int _free;                                                     // nothing is held back while it is not 0

    internal ThrottleMember(ThrottleGroup group) => Group = group;

    public ThrottleGroup Group { get; }

    bool IsFree => Volatile.Read(ref _free) != 0;

    /// <summary>Completes when the request may go on; without an allocation where that is now.</summary>
    public ValueTask WaitAsync(bool isWrite, long bytes)
    {
        if (IsFree || Group.TryPass(isWrite, bytes)) return default;
        var wait = new Wait(bytes);
        Hold(isWrite, wait);
        return new ValueTask(wait.Task);
    }

    /// <summary>Whether the request would not have to wait now: then it goes on and is counted by
    /// <see cref="Count"/>.</summary>
    public bool MayPass(bool isWrite) => IsFree || Group.MayPass(isWrite);

    public void Count(bool isWrite, long bytes)
    {
        if (!IsFree) Group.Count(isWrite, bytes);
    }

    /// <summary>Somebody waits for the last request: all that waits goes on at once, uncounted, and so does what comes
    /// until <see cref="HoldAgain"/>.</summary>
    public void LetGo()
    {
        Interlocked.Increment(ref _free);
        Group.LetGo(this);
    }

    public void HoldAgain() => Interlocked.Decrement(ref _free);

    /// <summary>Is no member any more; what waits goes on.</summary>
    public void Leave()
    {
        Interlocked.Increment(ref _free);                          // for good: requests may be on their way
        Group.Leave(this);
    }

    internal bool Holds(bool isWrite, IThrottled request)
    {
        if (IsFree || Group.TryPass(isWrite, request.Bytes)) return false;
        Hold(isWrite, request);
        return true;
    }

    void Hold(bool isWrite, IThrottled request)
    {
        Group.Hold(this, isWrite, request);
        if (IsFree) Group.LetGo(this);                             // that began meanwhile
    }

    // Within the group's lock

    Queue<IThrottled> Waiting(bool isWrite) => isWrite ? _writes : _reads;

    internal bool IsWaiting(bool isWrite) => Waiting(isWrite).Count > 0;

    internal void Add(bool isWrite, IThrottled request) => Waiting(isWrite).Enqueue(request);

    internal long FirstBytes(bool isWrite) => Waiting(isWrite).Peek().Bytes;

    /// <summary>The first of this direction goes on.</summary>
    internal void Release(bool isWrite) => Waiting(isWrite).Dequeue().GoOn();
}
