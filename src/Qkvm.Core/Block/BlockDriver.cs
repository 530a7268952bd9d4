using System.Text.Json.Nodes;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Core.Block;

[Flags]
public enum WriteFlags
{
    None = 0,
    /// <summary>Forced unit access: the data is on stable storage when the write completes.</summary>
    Fua = 1,
}

/// <summary>A block node: a protocol (file) or a format (raw, qcow2) over child nodes, as -blockdev stacks
/// them.</summary>
/// <remarks>Positional and safe for many requests at once from worker threads, never under the machine lock. The driver
/// validates ranges: a request beyond <see cref="Length"/> fails with EINVAL. Failures are
/// <see cref="BlockException"/>s with an errno. Buffers are scatter-gather lists over guest RAM: pass them on, slice
/// them, do not copy them.</remarks>
public abstract class BlockDriver : IAsyncDisposable, IBlockUser
{
    readonly List<BlockEdge> _edges = [];                          // within the lock of the graph

    /// <summary>"file", "raw", "qcow2".</summary>
    public abstract string FormatName { get; }

    /// <summary>node-name; "#block123" style names are made where users give none.</summary>
    public string NodeName { get; init; } = "";

    /// <summary>What it reads from, for monitors and messages.</summary>
    public virtual string FileName => "";

    /// <summary>The nodes below, each by its role: "file", "backing".</summary>
    public virtual IReadOnlyList<BlockEdge> Children => [];

    /// <summary>What it lies over; null for nothing.</summary>
    public BlockDriver? Below
    {
        get
        {
            foreach (BlockEdge child in Children)
                if (child.Role == BlockEdge.Backing) return child.Node;
            return null;
        }
    }

    /// <summary>What its image tells of itself.</summary>
    public virtual ImageFacts Facts => new();

    /// <summary>Bytes; a multiple of 512 for what guests see.</summary>
    public abstract long Length { get; }
    public abstract bool IsReadOnly { get; }

    public abstract ValueTask ReadAsync(long offset, ScatterList buffers);
    public abstract ValueTask WriteAsync(long offset, ScatterList buffers);

    /// <summary>A driver that has nothing better makes forced unit access of a write and a flush.</summary>
    public virtual ValueTask WriteAsync(long offset, ScatterList buffers, WriteFlags flags)
    {
        ValueTask written = WriteAsync(offset, buffers);
        return (flags & WriteFlags.Fua) == 0 ? written : ThenFlushAsync(written);
    }

    protected async ValueTask ThenFlushAsync(ValueTask written)
    {
        await written.ConfigureAwait(false);
        await FlushAsync().ConfigureAwait(false);
    }

    /// <summary>Starts a request without waiting for anything: on a loop's thread, which others need. False where that
    /// is not possible;
    /// nothing has happened then, but that buffers of a read may hold anything, and a worker thread does it by the
    /// other members.</summary>
    /// <param name="ring">The loop's own, where it has one.</param>
    /// <param name="result">Completes at once or on the loop.</param>
    public virtual bool TryStart(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        return false;
    }

    /// <summary>After it completes, everything written before is on stable storage.</summary>
    public abstract ValueTask FlushAsync();

    /// <summary>The contents of the range are no longer needed; afterwards it reads as zeros or as before.</summary>
    public virtual ValueTask DiscardAsync(long offset, long length) => default;

    /// <summary>Afterwards the range reads as zeros.</summary>
    public abstract ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap);

    /// <summary>What is known of the leading part of a range that is alike; a driver that knows nothing says
    /// data.</summary>
    /// <param name="length">At least 1.</param>
    public virtual ValueTask<BlockStatus> StatusAsync(long offset, long length) => new(BlockStatus.Data(length));

    /// <summary>Copies bytes of another node without reading them; false where it cannot, and nothing has
    /// happened then.</summary>
    /// <param name="mayMove">The kernel may copy them; else they are only shared, where the file system can.</param>
    public virtual ValueTask<bool> TryCopyAsync(long offset, BlockDriver source, long sourceOffset, long length,
        bool mayMove) => new(false);

    /// <summary>Somebody waits for the last request: here and below none waits on purpose until the result is called.
    /// Null: none ever does.</summary>
    public virtual Action? LetGo()
    {
        Action? holdAgain = null;
        foreach (BlockEdge child in Children) holdAgain += child.Node.LetGo();
        return holdAgain;
    }

    /// <summary>Moves the end. What is new reads as zeros. No request is in flight.</summary>
    /// <param name="length">Bytes, a multiple of 512.</param>
    public virtual ValueTask ResizeAsync(long length) =>
        throw new BlockException("Image format driver does not support resize", ENotSup);

    /// <summary>Moves the end, and takes room for what is new.</summary>
    public virtual ValueTask ResizeAsync(long length, Preallocation preallocation) =>
        preallocation == Preallocation.Off ? ResizeAsync(length) : throw new BlockException(
            $"Unsupported preallocation mode '{preallocation.ToString().ToLowerInvariant()}'", ENotSup);

    /// <summary>Opens it for reading alone, or for writing too. No request is in flight.</summary>
    /// <exception cref="BlockException">It, or what it lies in, cannot be written.</exception>
    public virtual ValueTask SetReadOnlyAsync(bool isReadOnly) => isReadOnly == IsReadOnly ? default
        : throw new BlockException($"Node '{NodeName}' cannot be opened for "
            + (isReadOnly ? "reading alone" : "writing"), ENotSup);

    const int ENotSup = 95;

    public abstract ValueTask DisposeAsync();

    // Who follows what is written

    /// <summary>Dirty bitmaps that go with the node, not kept in its image.</summary>
    public virtual IReadOnlyList<DirtyBitmap> TemporaryBitmaps => [];

    /// <summary>All its dirty bitmaps: those and what its image keeps.</summary>
    public IEnumerable<IBitmap> DirtyBitmaps => TemporaryBitmaps.Concat((this as IBitmaps)?.Bitmaps ?? []);

    /// <summary>Takes note of writes from now on.</summary>
    public virtual void Follow(DirtyBitmap bitmap) => throw new BlockException(
        $"Node '{NodeName}' does not tell of writes", ENotSup);

    public virtual void Unfollow(DirtyBitmap bitmap) { }

    /// <summary>Tells somebody of writes from now on. No request is in flight.</summary>
    public virtual void Follow(IWriteObserver observer) => throw new BlockException(
        $"Node '{NodeName}' does not tell of writes", ENotSup);

    public virtual void Unfollow(IWriteObserver observer) { }

    // Who uses it

    /// <summary>Users of the node; a change waits for no request.</summary>
    public IReadOnlyList<BlockEdge> Edges => _edges;

    /// <summary>It has a name of the user's, and stays without users.</summary>
    public bool IsNamed { get; set; }

    /// <summary>What all its users need and forbid.</summary>
    public BlockUse Use { get; private set; }

    /// <summary>Its users are about to need and forbid something else: passes it on to the nodes below or to other
    /// programs.</summary>
    /// <exception cref="ConfigurationException">They are in the way.</exception>
    protected virtual void OnUse(BlockUse use) { }

    string IBlockUser.UserName => $"node '{NodeName}'";

    async ValueTask<Action> IBlockUser.PauseAsync()
    {
        Action resume = static () => { };
        foreach (BlockEdge edge in _edges.ToArray()) resume += await edge.User.PauseAsync().ConfigureAwait(false);
        return resume;
    }

    internal void Join(BlockEdge edge, BlockUse use)
    {
        Rejoin(edge, use);
        _edges.Add(edge);
    }

    internal void Rejoin(BlockEdge edge, BlockUse use)
    {
        BlockUse all = use;
        foreach (BlockEdge other in _edges)
        {
            if (other == edge) continue;
            if (use.ConflictWith(other.Use) is not BlockRights.None and var rights)
                throw new ConfigurationException($"node '{NodeName}' is in use by {other.User.UserName} as "
                    + $"'{other.Role}', and they cannot share the right to '{rights}'");
            all += other.Use;
        }
        OnUse(all);
        Use = all;
    }

    internal void Leave(BlockEdge edge)
    {
        if (!_edges.Remove(edge)) return;
        BlockUse all = default;
        foreach (BlockEdge other in _edges) all += other.Use;
        OnUse(all);
        Use = all;
    }
}

/// <summary>What an image tells of itself; null for what it has not.</summary>
/// <param name="ActualSize">Bytes that it takes on the host.</param>
/// <param name="BackingFile">As written in the image.</param>
/// <param name="Specific">Of the format alone, by QMP's names.</param>
/// <param name="Snapshots">Null of a format that keeps none.</param>
public sealed record ImageFacts(long? ActualSize = null, int? ClusterSize = null, string? BackingFile = null,
    string? BackingFormat = null, bool IsDirty = false, JsonObject? Specific = null,
    IReadOnlyList<BlockSnapshot>? Snapshots = null, bool IsEncrypted = false);

/// <summary>A state of a disk that its image keeps beside the one of now.</summary>
/// <param name="VmStateSize">Bytes of the machine's state; 0 of a disk's alone.</param>
/// <param name="Seconds">Since 1970, UTC.</param>
/// <param name="VmClock">Nanoseconds that the machine had run.</param>
/// <param name="InstructionCount">Null where instructions were not counted.</param>
public sealed record BlockSnapshot(string Id, string Name, ulong VmStateSize, uint Seconds, uint Nanoseconds,
    ulong VmClock, ulong? InstructionCount);

/// <summary>An I/O error as the host named it.</summary>
public sealed class BlockException(string message, int errno) : Exception(message)
{
    public int Errno { get; } = errno;

    /// <summary>Whatever goes wrong, a request completes: EIO for what has no errno.</summary>
    public static int ErrnoOf(Exception e) => e is BlockException known ? known.Errno : 5;
}
