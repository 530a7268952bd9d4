using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Storage.Drivers.CopyOnRead;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers;

public enum DetectZeroes { Off, On, Unmap }

/// <summary>What every node takes: <c>node-name=</c>, <c>read-only=</c>, <c>discard=</c>,
/// <c>detect-zeroes=</c>.</summary>
public sealed record NodeOptions(string NodeName = "")
{
    public bool ReadOnly { get; init; }

    /// <summary>discard=unmap; discard=ignore otherwise.</summary>
    public bool Discard { get; init; }
    public DetectZeroes DetectZeroes { get; init; }
}

/// <summary>The part that all drivers share: range and permission checks, discard policy, zero detection.</summary>
public abstract partial class BlockNode : BlockDriver
{
    volatile BlockEdge[] _children = [];                           // replaced as a whole: any thread may look
    volatile bool _discard;
    volatile DetectZeroes _detectZeroes;

    protected BlockNode(NodeOptions options)
    {
        NodeName = options.NodeName;
        _isReadOnly = options.ReadOnly;
        _discard = options.Discard;
        _detectZeroes = options.DetectZeroes;
    }

    /// <summary>What the user said of it, flat.</summary>
    internal IReadOnlyList<OptionPair> Given { get; set; } = [];

    /// <summary>How it treats discards and zeroes.</summary>
    internal (bool Discard, DetectZeroes DetectZeroes) Treatment
    {
        get => (_discard, _detectZeroes);
        set => (_discard, _detectZeroes) = value;
    }

    /// <summary>blockdev-reopen: takes what else its driver can change. No request is in flight.</summary>
    /// <returns>What undoes it.</returns>
    internal virtual Action Change(Options options, in Surroundings around) => static () => { };

    /// <summary>It may do so while jobs, which do not wait, have requests in flight.</summary>
    internal virtual bool ChangesUnderJobs => false;

    public sealed override bool IsReadOnly => _isReadOnly;

    volatile bool _isReadOnly;

    public sealed override async ValueTask SetReadOnlyAsync(bool isReadOnly)
    {
        if (isReadOnly == _isReadOnly) return;
        await ReopenAsync(isReadOnly).ConfigureAwait(false);
        _isReadOnly = isReadOnly;
    }

    /// <summary>Before it becomes what it is to be: of drivers that can.</summary>
    protected virtual ValueTask ReopenAsync(bool isReadOnly) => base.SetReadOnlyAsync(isReadOnly);

    public override IReadOnlyList<BlockEdge> Children => _children;

    /// <summary>Begins to use a node below; <see cref="ReleaseChildrenAsync"/> ends it.</summary>
    protected BlockEdge Attach(string role, BlockDriver node, BlockUse use)
    {
        var edge = new BlockEdge(node, this, role, use);
        _children = [.. _children, edge];
        return edge;
    }

    /// <summary>Ends the use of a node below, which stays open.</summary>
    protected void Detach(BlockEdge edge)
    {
        _children = [.. _children.Where(child => child != edge)];
        edge.Detach();
    }

    /// <summary>Where making the node fails: what it used goes back as it was.</summary>
    protected void DetachChildren()
    {
        foreach (BlockEdge child in _children) child.Detach();
        _children = [];
    }

    /// <summary>The end of a node that is closed: nodes below that nobody else uses or names are closed too.</summary>
    protected async ValueTask ReleaseChildrenAsync()
    {
        foreach (BlockEdge child in _children) await child.ReleaseAsync().ConfigureAwait(false);
        _children = [];
    }

    public abstract override string FileName { get; }

    /// <summary>Requests may end here; larger than Length for a file that a format driver may grow.</summary>
    protected virtual long Limit => Length;

    public sealed override ValueTask ReadAsync(long offset, ScatterList buffers)
    {
        CheckRange(offset, buffers.Length);
        if (buffers.Length == 0) return default;
        return CopiesOnRead ? ReadCopyingAsync(offset, buffers) : ReadCore(offset, buffers);
    }

    /// <summary>copy-on-read=on of -drive: it takes what is read from what it lies over.</summary>
    internal bool CopiesOnRead { get; set; }

    async ValueTask ReadCopyingAsync(long offset, ScatterList buffers)
    {
        await CopyOnReading.PullAsync(this, null, offset, buffers.Length).ConfigureAwait(false);
        await ReadCore(offset, buffers).ConfigureAwait(false);
    }

    public sealed override ValueTask WriteAsync(long offset, ScatterList buffers)
    {
        CheckWrite(offset, buffers.Length);
        if (buffers.Length == 0) return default;
        return IsFollowed ? WriteFollowedAsync(offset, buffers) : StartWrite(offset, buffers);
    }

    ValueTask StartWrite(long offset, ScatterList buffers) =>
        _detectZeroes != DetectZeroes.Off && ScatterLists.IsZero(buffers)
            ? WriteZeroesCore(offset, buffers.Length, _detectZeroes == DetectZeroes.Unmap && _discard)
            : WriteCore(offset, buffers);

    public sealed override ValueTask WriteAsync(long offset, ScatterList buffers, WriteFlags flags)
    {
        if (_detectZeroes != DetectZeroes.Off || !HasFua || (flags & WriteFlags.Fua) == 0)
            return base.WriteAsync(offset, buffers, flags);
        CheckWrite(offset, buffers.Length);
        return IsFollowed ? WriteFuaFollowedAsync(offset, buffers) : WriteFuaCore(offset, buffers);
    }

    /// <summary>The driver has <see cref="WriteFuaCore"/>, which costs less than a flush.</summary>
    protected virtual bool HasFua => false;

    protected virtual ValueTask WriteFuaCore(long offset, ScatterList buffers) =>
        ThenFlushAsync(WriteCore(offset, buffers));

    public sealed override ValueTask DiscardAsync(long offset, long length)
    {
        CheckWrite(offset, length);
        if (!_discard || length == 0) return default;
        return IsFollowed ? DiscardFollowedAsync(offset, length) : DiscardCore(offset, length);
    }

    public sealed override ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap)
    {
        CheckWrite(offset, length);
        if (length == 0) return default;
        bool unmaps = mayUnmap && _discard;
        return IsFollowed ? ZeroFollowedAsync(offset, length, unmaps) : WriteZeroesCore(offset, length, unmaps);
    }

    public sealed override ValueTask<BlockStatus> StatusAsync(long offset, long length)
    {
        CheckRange(offset, length);
        return StatusCore(offset, length);
    }

    protected virtual ValueTask<BlockStatus> StatusCore(long offset, long length) => new(BlockStatus.Data(length));

    public sealed override ValueTask ResizeAsync(long length) => ResizeAsync(length, Preallocation.Off);

    public sealed override ValueTask ResizeAsync(long length, Preallocation preallocation)
    {
        CheckWrite(0, 0);
        if (length < 0 || length % 512 != 0)
            throw new BlockException($"{FileName}: {length} bytes are no whole sectors", Errno.Inval);
        return ResizeFollowedAsync(length, preallocation);
    }

    /// <summary>Of a driver that can take room from the host; others move the end alone.</summary>
    protected virtual ValueTask ResizeCore(long length, Preallocation preallocation) =>
        preallocation == Preallocation.Off ? ResizeCore(length) : throw new BlockException(
            $"Unsupported preallocation mode '{preallocation.ToString().ToLowerInvariant()}'", Errno.OpNotSupp);

    protected virtual ValueTask ResizeCore(long length) => throw new BlockException(
        "Image format driver does not support resize", Errno.OpNotSupp);

    public sealed override bool TryStart(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        switch (operation)
        {
            case BlockOperation.Read when !CopiesOnRead: CheckRange(offset, buffers.Length); break;
            case BlockOperation.Write when _detectZeroes == DetectZeroes.Off && !IsFollowed:
                CheckWrite(offset, buffers.Length);
                break;
            case BlockOperation.Flush: return TryStartCore(operation, 0, default, ring, out result);
            default: return false;
        }
        return buffers.Length == 0 || TryStartCore(operation, offset, buffers, ring, out result);
    }

    /// <summary>A read, write or flush as <see cref="BlockDriver.TryStart"/> has it; the range is checked.</summary>
    protected virtual bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        return false;
    }

    protected abstract ValueTask ReadCore(long offset, ScatterList buffers);
    protected abstract ValueTask WriteCore(long offset, ScatterList buffers);
    protected abstract ValueTask DiscardCore(long offset, long length);
    protected abstract ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap);

    void CheckWrite(long offset, long length)
    {
        if (IsReadOnly) throw new BlockException($"{FileName}: the node is read-only", Errno.Perm);
        CheckRange(offset, length);
    }

    void CheckRange(long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > Limit - length)
            throw new BlockException($"{FileName}: {length} bytes at {offset} do not lie inside its {Length} bytes",
                Errno.Inval);
    }
}

/// <summary>A child that format drivers write past its end.</summary>
public interface IGrowable
{
    /// <summary>Lets requests pass the end: reads find zeros there, writes move it. False where the size is
    /// fixed.</summary>
    bool AllowGrowth();
}
