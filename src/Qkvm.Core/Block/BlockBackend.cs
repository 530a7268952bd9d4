using System.Collections.Concurrent;

namespace Qkvm.Core.Block;

public enum BlockOperation { Read, Write, Flush, Discard, WriteZeroes }

/// <summary>One request of a device; reusable after it completed, so that steady traffic allocates nothing.</summary>
public abstract class BlockRequest
{
    public BlockOperation Operation { get; set; }

    /// <summary>Bytes from the start of the disk.</summary>
    public long Offset { get; set; }

    /// <summary>Bytes, for Discard and WriteZeroes; for Read and Write that of <see cref="Buffers"/>.</summary>
    public long Length { get; set; }
    public ScatterList Buffers { get; set; }
    public bool MayUnmap { get; set; }
    internal int Errno { get; set; }

    /// <summary>On the main loop under the machine lock. 0 or an errno.</summary>
    public abstract void Complete(int errno);
}

/// <summary>What a disk device sees: a medium or none, requests with completions, counters.</summary>
/// <param name="post">Runs an action on the main loop under the machine lock.</param>
public sealed class BlockBackend(string id, Action<Action> post) : IAsyncDisposable
{
    const int EIo = 5, ENoMedium = 123;

    readonly ConcurrentQueue<BlockRequest> _completed = new();
    int _completionPosted;
    int _inFlight;

    public string Id { get; } = id;

    /// <summary>The top node, or null for an empty drive. Changed only while nothing is in flight.</summary>
    public BlockDriver? Root { get; private set; }

    /// <summary>Bytes; 0 without a medium.</summary>
    public long Length => Root?.Length ?? 0;
    public bool IsReadOnly { get; set; }
    public bool HasMedium => Root != null;

    /// <summary>serial= of the device or drive, where given.</summary>
    public string? Serial { get; set; }

    /// <summary>What it is called in `info block`: the file name.</summary>
    public string Description { get; set; } = "";

    /// <summary>write-cache=on: data may wait for a flush. Off (writethrough): each write ends with one.</summary>
    public bool WriteCache { get; set; } = true;

    public int InFlight => Volatile.Read(ref _inFlight);

    /// <summary>The medium was put in or taken out. Under the machine lock.</summary>
    public event Action? MediumChanged;

    /// <summary>The device that listened has gone.</summary>
    public void Forget() => MediumChanged = null;

    public void Insert(BlockDriver? root)
    {
        Root = root;
        MediumChanged?.Invoke();
    }

    /// <summary>Starts a request; Complete follows later on the main loop, never inside this call. Under the machine
    /// lock.</summary>
    public void Submit(BlockRequest request)
    {
        Interlocked.Increment(ref _inFlight);
        ThreadPool.UnsafeQueueUserWorkItem(static pair => _ = pair.Backend.RunAsync(pair.Request),
            (Backend: this, Request: request), preferLocal: false);
    }

    /// <summary>Waits until no request is in flight, running their completions. Under the machine lock.</summary>
    public void Drain()
    {
        var wait = new SpinWait();
        while (InFlight > 0)
        {
            RunCompletions();
            wait.SpinOnce();
        }
    }

    public ValueTask DisposeAsync() => Root?.DisposeAsync() ?? default;

    async Task RunAsync(BlockRequest request)
    {
        int errno = EIo;                                           // whatever goes wrong, the request completes
        try
        {
            if (Root is { } root) await ExecuteAsync(root, request).ConfigureAwait(false);
            else throw new BlockException("no medium", ENoMedium);
            errno = 0;
        }
        catch (BlockException e) { errno = e.Errno; }
        catch (IOException) { errno = EIo; }
        finally
        {
            request.Errno = errno;
            _completed.Enqueue(request);
            if (Interlocked.Exchange(ref _completionPosted, 1) == 0) post(RunCompletions);
        }
    }

    async ValueTask ExecuteAsync(BlockDriver root, BlockRequest request)
    {
        await (request.Operation switch
        {
            BlockOperation.Read => root.ReadAsync(request.Offset, request.Buffers),
            BlockOperation.Write => root.WriteAsync(request.Offset, request.Buffers),
            BlockOperation.Flush => root.FlushAsync(),
            BlockOperation.Discard => root.DiscardAsync(request.Offset, request.Length),
            _ => root.WriteZeroesAsync(request.Offset, request.Length, request.MayUnmap),
        }).ConfigureAwait(false);
        if (!WriteCache && (request.Operation is BlockOperation.Write or BlockOperation.WriteZeroes))
            await root.FlushAsync().ConfigureAwait(false);
    }

    void RunCompletions()
    {
        Volatile.Write(ref _completionPosted, 0);
        while (_completed.TryDequeue(out BlockRequest? request))
        {
            Interlocked.Decrement(ref _inFlight);
            request.Complete(request.Errno);
        }
    }
}
