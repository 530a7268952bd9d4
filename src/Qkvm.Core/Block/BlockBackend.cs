using System.Collections.Concurrent;
using Qkvm.Core.Block.Throttling;
using Qkvm.Host;

namespace Qkvm.Core.Block;

/// <summary>What a disk device sees: a medium or none, requests with completions, counters.</summary>
/// <param name="post">Runs an action on the main loop under the machine lock.</param>
public sealed class BlockBackend(string id, Action<Action> post) : IAsyncDisposable, IBlockUser
{
    const int ENoMedium = 123;

    readonly List<Action> _whenIdle = [];                          // under the machine lock
    Action? _holdAgain;                                            // under the machine lock: what then waits again
    int _waitsForIdle;
    int _inFlight, _paused;
    TaskCompletionSource? _drained;                                // somebody waits until nothing is in flight
    volatile BlockEdge? _root;
    BlockQueue? _main;

    public string Id { get; } = id;

    /// <summary>The top node, or null for an empty drive. Changed only while nothing is in flight.</summary>
    public BlockDriver? Root => _root?.Node;

    /// <summary>Its use of <see cref="Root"/>.</summary>
    public BlockEdge? Edge => _root;

    /// <summary>Bytes; 0 without a medium.</summary>
    public long Length => Root?.Length ?? 0;
    public bool IsReadOnly { get; set; }
    public bool HasMedium => Root != null;

    /// <summary>serial= of the device or drive, where given.</summary>
    public string? Serial { get; set; }

    /// <summary>What it is called in `info block`: the file name.</summary>
    public string Description { get; set; } = "";

    /// <summary>Data may wait for a flush; off (writethrough): each write is on stable storage before it completes. By
    /// cache=, then by the device's write-cache=, then as the guest sets it.</summary>
    public bool WriteCache
    {
        get => _writeCache;
        set => _writeCache = value;
    }

    volatile bool _writeCache = true;                              // loops read it

    public BlockStatistics Statistics { get; } = new();
    public BlockErrors Errors { get; } = new();

    volatile ThrottleMember? _throttle;

    /// <summary>Its place among those who share limits; null: nobody slows it down. Leaves the one before. Under the
    /// machine lock.</summary>
    public ThrottleMember? Throttle
    {
        get => _throttle;
        set
        {
            ThrottleMember? before = _throttle;
            _throttle = value;
            before?.Leave();
        }
    }

    public int InFlight => Volatile.Read(ref _inFlight);

    /// <summary>The device has no request, neither in flight nor waiting for the machine to go on.</summary>
    public bool IsIdle => InFlight == 0 && Errors.Waiting == 0;

    /// <summary>The medium was put in or taken out. Under the machine lock.</summary>
    public event Action? MediumChanged;

    /// <summary>Requests that were held back may be submitted again. From any thread.</summary>
    internal event Action? Resumed;

    /// <summary>The device that listened has gone.</summary>
    public void Forget()
    {
        (MediumChanged, Resumed, _main) = (null, null, null);
        Errors.Forget();
    }

    /// <summary>Puts a medium in, for a guest that reads and, where <see cref="IsReadOnly"/> is not set, writes. What
    /// was there stays open.</summary>
    /// <exception cref="ConfigurationException">Somebody else uses it in another way.</exception>
    public void Insert(BlockDriver? root)
    {
        BlockEdge? before = _root;
        _root = root == null ? null : new BlockEdge(root, this, "root", BlockUse.Disk(IsReadOnly, SharesWrite));
        before?.Detach();
        MediumChanged?.Invoke();
    }

    /// <summary>The medium has another size: the device tells the guest. Under the machine lock.</summary>
    public void TellLength() => MediumChanged?.Invoke();

    /// <summary>share-rw=on: others may write to the disk too.</summary>
    public bool SharesWrite
    {
        get;
        set
        {
            _root?.Change(BlockUse.Disk(IsReadOnly, value));
            field = value;
        }
    }

    /// <summary>Starts a request; Complete follows later on the main loop, never inside this call. Under the machine
    /// lock.</summary>
    public void Submit(BlockRequest request) => Main.Submit(request);

    /// <summary>As <see cref="Submit"/>, but Complete follows inside this call where the host has the bytes in memory.
    /// </summary>
    public void SubmitNow(BlockRequest request) => Main.Submit(request, isInside: true);

    BlockQueue Main => _main ??= new BlockQueue(this, post);

    /// <summary>Runs the action under the machine lock as soon as no request is in flight: now, or later on the main
    /// loop.</summary>
    public void WhenIdle(Action action)
    {
        _whenIdle.Add(action);
        Volatile.Write(ref _waitsForIdle, 1);
        LetGo();
        _holdAgain += Root?.LetGo();
        Errors.GiveUp();
        RunIdle();
    }

    /// <summary>Waits until no request is in flight, running completions that are the main loop's. For the end, when
    /// nobody else runs them.
    /// Not under the machine lock, unless all disks are known to answer.</summary>
    /// <returns>False: some have not ended in the given time.</returns>
    public bool Drain(int milliseconds = Timeout.Infinite)
    {
        long end = milliseconds < 0 ? long.MaxValue : Environment.TickCount64 + milliseconds;
        Action? holdAgain = Root?.LetGo();
        try
        {
            while (InFlight > 0)
            {
                if (Environment.TickCount64 > end) return false;
                LetGo();
                _main?.RunCompletions();
                if (InFlight > 0) Thread.Sleep(1);
            }
            return true;
        }
        finally { holdAgain?.Invoke(); }
    }

    public ValueTask DisposeAsync()
    {
        BlockEdge? root = _root;
        _root = null;
        Throttle = null;
        return root?.ReleaseAsync() ?? default;
    }

    // Pauses, while the graph below changes

    string IBlockUser.UserName => $"drive '{Id}'";

    async ValueTask<Action> IBlockUser.PauseAsync()
    {
        Interlocked.Increment(ref _paused);
        LetGo();
        Action? holdAgain = Root?.LetGo();
        if (InFlight > 0)
        {
            var drained = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            drained = Interlocked.CompareExchange(ref _drained, drained, null) ?? drained;
            if (InFlight == 0) drained.TrySetResult();
            await drained.Task.ConfigureAwait(false);
        }
        return holdAgain + Resume;
    }

    void Resume()
    {
        Volatile.Write(ref _drained, null);
        if (Interlocked.Decrement(ref _paused) == 0) Resumed?.Invoke();
    }

    internal bool IsPaused => Volatile.Read(ref _paused) != 0;

    /// <summary>A request starts; false while there is a pause: then the queue keeps it.</summary>
    internal bool TryBegin()
    {
        Interlocked.Increment(ref _inFlight);
        if (!IsPaused) return true;
        Ended();
        return false;
    }

    /// <summary>Keeps a request that limits forbid for now, unless somebody waits for the last one.</summary>
    internal bool Holds(BlockQueue queue, BlockRequest request)
    {
        if (_throttle is not { } member || WaitsForLast
            || request.Operation is BlockOperation.Flush or BlockOperation.Discard) return false;
        request.Queue = queue;
        if (!member.Holds(request.Operation != BlockOperation.Read, request)) return false;
        if (WaitsForLast) member.Group.LetGo(member);
        return true;
    }

    /// <summary>A request that was kept for the machine is in flight again, to end.</summary>
    internal void BeginAgain() => Interlocked.Increment(ref _inFlight);

    /// <summary>Whether a failed request waits for the machine; else the device is told of the errno.</summary>
    internal bool Keeps(BlockQueue queue, BlockRequest request, ref int errno) =>
        Errors.Keeps(queue, request, Volatile.Read(ref _waitsForIdle) == 0, ref errno);

    bool WaitsForLast => IsPaused || Volatile.Read(ref _waitsForIdle) != 0;

    void LetGo()
    {
        if (_throttle is { } member) member.Group.LetGo(member);
    }

    internal void Ended()
    {
        if (Interlocked.Decrement(ref _inFlight) != 0) return;
        if (Volatile.Read(ref _waitsForIdle) != 0) post(RunIdle);
        Volatile.Read(ref _drained)?.TrySetResult();
    }

    /// <summary>The whole of a request, on a worker thread.</summary>
    internal ValueTask ExecuteAsync(BlockRequest request)
    {
        if (Root is not { } root) throw new BlockException("no medium", ENoMedium);
        ValueTask done = request.Operation switch
        {
            BlockOperation.Read => root.ReadAsync(request.Offset, request.Buffers),
            BlockOperation.Write => root.WriteAsync(request.Offset, request.Buffers, FlagsOf(request)),
            BlockOperation.Flush => root.FlushAsync(),
            BlockOperation.Discard => root.DiscardAsync(request.Offset, request.Length),
            _ => root.WriteZeroesAsync(request.Offset, request.Length, request.MayUnmap),
        };
        return request.Operation == BlockOperation.WriteZeroes && !WriteCache ? ThenFlushAsync(done, root) : done;
    }

    static async ValueTask ThenFlushAsync(ValueTask done, BlockDriver root)
    {
        await done.ConfigureAwait(false);
        await root.FlushAsync().ConfigureAwait(false);
    }

    internal WriteFlags FlagsOf(BlockRequest request) =>
        request.Operation == BlockOperation.Write && (request.Fua || !WriteCache) ? WriteFlags.Fua : WriteFlags.None;

    void RunIdle()
    {
        if (InFlight > 0) return;                                  // new ones came: again when they have ended
        Volatile.Write(ref _waitsForIdle, 0);
        _holdAgain?.Invoke();
        _holdAgain = null;
        Action[] now = [.. _whenIdle];
        _whenIdle.Clear();
        foreach (Action action in now) action();
    }
}
