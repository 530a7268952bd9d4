using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Images;

/// <summary>What formats share whose image says of each run of guest bytes where in a file they lie. This much serves
/// formats that are only read.</summary>
/// <remarks>A request holds its blocks: shared while it reads or writes in place, exclusively while it changes where
/// they lie. The tables are under <see cref="Sync"/>.</remarks>
public abstract class ImageNode : BlockNode
{
    const int SectorSize = 512;

    readonly BlockEdge _file;
    BlockEdge? _backing;
    int _disposed;

    private protected readonly RangeLock Blocks = new();

    protected ImageNode(BlockDriver file, NodeOptions options) : base(options)
    {
        if (!IsReadOnly && file.IsReadOnly)
            throw new ConfigurationException($"Could not open '{BlockFactory.NameOf(file)}': its file node is "
                + "read-only; give read-only=on");
        _file = Attach("file", file, BlockUse.Format(IsReadOnly)); // first: from now on the image stays as it is
        CanGrow = file is IGrowable growable && growable.AllowGrowth();
    }

    protected Lock Sync { get; } = new();
    protected BlockDriver File => _file.Node;
    protected BlockDriver? Backing => _backing?.Node;

    /// <summary>The file takes writes past its end, and gives zeros there.</summary>
    private protected bool CanGrow { get; }

    public override string FileName => BlockFactory.NameOf(File);

    public override ImageFacts Facts => new(File.Facts.ActualSize);

    /// <summary>Reads headers and what opening needs.</summary>
    protected abstract void Load();

    /// <summary>The longest run that begins at an offset, is of one kind and lies together. Under
    /// <see cref="Sync"/>.</summary>
    private protected abstract ImageRun Find(long offset, long length);

    /// <summary>Whether <see cref="Find"/> answers from memory.</summary>
    private protected virtual bool IsLoaded(long offset) => false;

    /// <summary>Bytes of a packed run.</summary>
    private protected virtual ValueTask ReadPackedAsync(long offset, ScatterList buffers) =>
        throw new NotSupportedException();

    /// <summary>Bytes that move as one where a write allocates, and that requests hold.</summary>
    private protected virtual int BlockSize => 64 << 10;

    /// <summary>Where making the node fails, what it used goes back as it was.</summary>
    internal static T Opened<T>(T image) where T : ImageNode
    {
        try
        {
            image.Load();
            return image;
        }
        catch (Exception e)
        {
            image._file.Detach();
            foreach (BlockEdge other in image.Children)
                if (other != image._file) other.ReleaseAsync().AsTask().GetAwaiter().GetResult();
            if (e is BlockException) throw image.Bad(e.Message);
            throw;
        }
    }

    /// <summary>The options of a node of a format that is never written.</summary>
    internal static NodeOptions ReadOnlyOptions(NodeParts parts)
    {
        if (!parts.Node.ReadOnly && !parts.Around.AutoReadOnly)
            throw new ConfigurationException($"Could not open '{BlockFactory.NameOf(parts.File)}': Image is read-only; "
                + "give read-only=on");
        return parts.Node with { ReadOnly = true };
    }

    protected void LieOver(BlockDriver? backing)
    {
        if (backing != null) _backing = Attach("backing", backing, BlockUse.Backing(default));
    }

    protected override void OnUse(BlockUse use) => _backing?.Change(BlockUse.Backing(use));

    protected ConfigurationException Bad(string what) => new($"Could not open '{FileName}': {what}");

    /// <summary>Bytes of the file, zeros past its end.</summary>
    protected byte[] ReadFile(long offset, int length)
    {
        var data = new byte[length];
        int inside = (int)Math.Clamp(File.Length - offset, 0, length);
        if (inside > 0) ScatterLists.Wait(File.ReadAsync(offset, new ScatterList(data.AsMemory(0, inside))));
        return data;
    }

    /// <summary>Whole sectors, as the guest sees them.</summary>
    protected static long Sectors(ulong bytes) => (long)Math.Min(bytes, long.MaxValue) / SectorSize * SectorSize;

    public override ValueTask FlushAsync() => File.FlushAsync();

    public sealed override async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return;
        try { if (!IsReadOnly) await CloseAsync().ConfigureAwait(false); }
        finally { await ReleaseChildrenAsync().ConfigureAwait(false); }
    }

    /// <summary>Before an image that may have been written is closed.</summary>
    protected virtual ValueTask CloseAsync() => default;

    /// <summary>What a check that mends nothing finds.</summary>
    private protected Core.Block.Images.CheckResult Check(Action<string> report, bool countsClusters = false)
    {
        lock (Sync)
            return ImageCheck.Run(Length, BlockSize, File, offset => Find(offset, Math.Min(BlockSize, Length - offset)),
                report, countsClusters);
    }

    protected override async ValueTask ReadCore(long offset, ScatterList buffers)
    {
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, buffers.Length, exclusive: false)
            .ConfigureAwait(false);
        try { await ReadMappedAsync(offset, buffers).ConfigureAwait(false); }
        finally { Blocks.Release(hold); }
    }

    private protected async ValueTask ReadMappedAsync(long offset, ScatterList buffers)
    {
        for (long done = 0; done < buffers.Length;)
        {
            ImageRun run;
            lock (Sync) run = Find(offset + done, buffers.Length - done);
            ScatterList part = buffers.Slice(done, run.Length);
            switch (run.Kind)
            {
                case RunKind.Data: await (run.File ?? File).ReadAsync(run.Host, part).ConfigureAwait(false); break;
                case RunKind.Packed: await ReadPackedAsync(offset + done, part).ConfigureAwait(false); break;
                case RunKind.Unallocated when Backing != null:
                    long inside = Math.Clamp(Backing.Length - offset - done, 0, part.Length);
                    if (inside > 0) await Backing.ReadAsync(offset + done, part.Slice(0, inside)).ConfigureAwait(false);
                    part.Slice(inside, part.Length - inside).Clear();
                    break;
                default: part.Clear(); break;
            }
            done += run.Length;
        }
    }

    protected override ValueTask<BlockStatus> StatusCore(long offset, long length)
    {
        ImageRun run;
        lock (Sync) run = Find(offset, length);
        return new(run.Kind switch
        {
            RunKind.Zero => BlockStatus.Zero(run.Length),
            RunKind.Unallocated when Backing == null => BlockStatus.Zero(run.Length, isAllocated: false),
            RunKind.Unallocated => BlockStatus.Below(run.Length),
            RunKind.Packed => BlockStatus.Data(run.Length) with { IsCompressed = true },
            _ => BlockStatus.Data(run.Length) with { HostNode = run.File ?? File, HostOffset = run.Host },
        });
    }

    private protected ValueTask<LinkedListNode<RangeLock.Hold>> HoldAsync(long offset, long length, bool exclusive) =>
        Blocks.AcquireAsync(offset / BlockSize, (offset + length - 1) / BlockSize + 1, exclusive);

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => throw NotWritable();
    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) => throw NotWritable();

    /// <summary>It reads as before, where a format has nothing better.</summary>
    protected override ValueTask DiscardCore(long offset, long length) => default;

    BlockException NotWritable() => new($"{FileName}: {FormatName} images are only read", Errno.Perm);
}
