using System.Text.Json.Nodes;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Format <c>qcow2</c>, versions 2 and 3, over a file and perhaps a backing node.
/// Spec: QEMU docs/interop/qcow2.txt.</summary>
/// <remarks>A request holds its guest clusters: shared while it reads or writes in place, exclusively while it changes
/// where they lie. So no cluster is freed or moved under a request, and data I/O needs no lock on the metadata.
/// Deviations: of encryption there is LUKS with aes-xts-plain64; the older AES-CBC is refused.</remarks>
public sealed partial class Qcow2Driver : BlockNode
{
    const string NoEffect = "taken, no effect";                    // tuning that this driver does not need

    static readonly string[] s_tuning =
    [
        "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "overlap-check",
        "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval",
    ];

    public static readonly BlockDriverModel Model = new("qcow2",
        [
            Property.Node("file", "the image"), Property.Node("backing",
                "what the image lies over; the header says so by default"),
            Property.Node("data-file", "where the data are; the header says so by default"),
            Property.Tree("encrypt", "format=luks, key-secret=ID of the secret with the passphrase"),
            .. s_tuning.Select(name => Property.Text(name, help: NoEffect)),
        ],
        Create)
    {
        Description = "QEMU's copy-on-write images", Creation = Qcow2Creation.Model, AmendOptions = s_amendOptions,
        CanCompress = true, KeepsBitmaps = true, Reopenable = s_tuning,
    };

    readonly BlockEdge _fileEdge;
    BlockEdge? _backingEdge;
    readonly Qcow2Store _store;
    readonly Qcow2Layout _layout;
    readonly Qcow2Writer _writer;
    readonly CompressedClusters _compressed;
    readonly RangeLock _clusters = new();
    volatile bool _isUntouched = true;                             // as it was on disk when it was opened
    int _disposed;

    /// <summary>Opens an image.</summary>
    /// <param name="openBacking">Given what the header says; the backing node is read-only, null for none.</param>
    /// <param name="openData">Given the name of the external data file, or null; returns null where nobody is going to
    /// read it.</param>
    /// <param name="isChecked">Damage that a check may mend is no reason to refuse it.</param>
    /// <param name="secret">Gives the passphrase of an encrypted image, or null where nobody is going to read
    /// it.</param>
    public Qcow2Driver(BlockDriver file, string name, NodeOptions options,
        Func<Qcow2ImageInfo, BlockDriver?> openBacking, Func<string?, BlockDriver?>? openData = null,
        bool isChecked = false, Func<byte[]?>? secret = null) : base(options)
    {
        _releases = new LoopStep<Release>.Pool(home => new Release(_clusters, home));
        if (!IsReadOnly && file.IsReadOnly)
            throw new ConfigurationException($"Could not open '{name}': its file node is read-only; give " +
                "read-only=on");
        _fileEdge = Attach("file", file, BlockUse.Format(IsReadOnly));   // first: from now on the image stays as it is
        try
        {
            Info = Qcow2ImageInfo.Read(file, name);
            Qcow2Header header = Info.Header;
            header.CheckFeatures(Info.Extensions, IsReadOnly || isChecked, name);
            if (openBacking(Info) is { } backing) _backingEdge = Attach("backing", backing, BlockUse.Backing(default));
            BlockEdge? data = null;
            if (header.HasDataFile && openData == null) throw new ConfigurationException($"Could not open '{name}': "
                + "'data-file' is required for this image");
            if (header.HasDataFile && openData!(Info.Extensions.DataFile) is { } dataNode)
                data = Attach("data-file", dataNode, BlockUse.Format(IsReadOnly));
            _store = new Qcow2Store(_fileEdge, header, name, IsReadOnly, data);
            _layout = _store.Layout;
            _compressed = new CompressedClusters(_store);
            _writer = new Qcow2Writer(_store, this, header.Version >= 3);
            _store.Load(isChecked);
            OpenEncryption(secret);
            OpenBitmaps();
        }
        catch (Exception e)
        {
            _fileEdge.Detach();
            foreach (BlockEdge other in Children)
                if (other != _fileEdge) other.ReleaseAsync().AsTask().GetAwaiter().GetResult();
            if (e is BlockException) throw new ConfigurationException($"Could not open '{name}': {e.Message}", e);
            throw;
        }
    }

    static Qcow2Driver Create(Properties properties, NodeParts parts)
    {
        string name = BlockFactory.NameOf(parts.File);
        if (BlockFactory.Probe(parts.File) is var found && found != Model.Name)
            throw new ConfigurationException($"Could not open '{name}': Image is not in qcow2 format"
                + (parts.Around.IsTool ? "" : $"; it looks like '{found ?? "raw"}'"));
        return new Qcow2Driver(parts.File, name, parts.Node,
            info => parts.OpenBacking(info.BackingFile, info.BackingFormat), data => OpenData(parts, data),
            parts.IsChecked, () => Secret(properties, parts));
    }

    static BlockDriver? OpenData(NodeParts parts, string? name)
    {
        if (name == null && !parts.Options.Has("data-file"))
            throw new ConfigurationException($"Could not open '{BlockFactory.NameOf(parts.File)}': 'data-file' is "
                + "required for this image");
        return parts.OpenExtent("data-file", name ?? "");
    }

    BlockDriver File => _fileEdge.Node;
    public BlockDriver? Backing => _backingEdge?.Node;

    protected override void OnUse(BlockUse use) => _backingEdge?.Change(BlockUse.Backing(use));

    public override string FormatName => Model.Name;
    public override string FileName => Info.Name;

    public override ImageFacts Facts => new(Children[0].Node.Facts.ActualSize, Info.ClusterSize, Info.BackingFile,
        Info.BackingFormat, Info.IsDirty, Specific(), [.. Snapshots], _store.IsEncrypted);

    JsonObject Specific()
    {
        var facts = new JsonObject
        {
            ["compat"] = Info.Compatibility, ["compression-type"] = Info.CompressionType,
            ["refcount-bits"] = Info.RefcountBits,
        };
        if (_encryption != null) facts["encrypt"] = _encryption.Describe(isInside: true);
        if (Info.Header.Version == 2) return facts;
        facts["lazy-refcounts"] = Info.LazyRefcounts;
        facts["corrupt"] = Info.IsCorrupt;
        facts["extended-l2"] = Info.HasExtendedL2;
        if (_bitmaps.Count > 0) facts["bitmaps"] = new JsonArray([.. _bitmaps.Select(bitmap => bitmap.Describe())]);
        if (!Info.Header.HasDataFile) return facts;
        if (Info.Extensions.DataFile is { } data) facts["data-file"] = data;
        facts["data-file-raw"] = Info.Header.IsDataRaw;
        return facts;
    }

    public override long Length => _store.Header.Size & ~511L;

    /// <summary>What the header says.</summary>
    public Qcow2ImageInfo Info { get; }

    /// <summary>Internal snapshots.</summary>
    public IEnumerable<BlockSnapshot> Snapshots => _store.Snapshots.Select(s => new BlockSnapshot(s.Id, s.Name,
        s.VmStateSize, s.Seconds, s.Nanoseconds, s.VmClock, s.InstructionCount));

    public override async ValueTask FlushAsync()
    {
        lock (_store.Sync) _store.Flush();
        if (_store.HasDataFile) await _store.Data.FlushAsync().ConfigureAwait(false);
        await File.FlushAsync().ConfigureAwait(false);
    }

    public override async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return;
        try
        {
            if (!IsReadOnly) Settle();
        }
        finally
        {
            await ReleaseChildrenAsync().ConfigureAwait(false);
            _store.Cipher?.Dispose();
        }
    }

    /// <summary>Leaves the image as it is when nobody has it open.</summary>
    void Settle()
    {
        if (_store.IsCorrupt) return;
        lock (_store.Sync)
        {
            _store.Flush();
            StoreBitmaps();
            _store.Flush();                                        // refcounts that were lowered
            _store.EndLazy();
        }
    }

    /// <inheritdoc/>
    protected override async ValueTask ReopenAsync(bool isReadOnly)
    {
        if (isReadOnly)
        {
            Settle();
            await File.FlushAsync().ConfigureAwait(false);
            _isUntouched = true;
        }
        else
        {
            await File.SetReadOnlyAsync(false).ConfigureAwait(false);
            if (_store.HasDataFile) await _store.Data.SetReadOnlyAsync(false).ConfigureAwait(false);
            try { Info.Header.CheckFeatures(Info.Extensions, readOnly: false, FileName); }
            catch (ConfigurationException e) { throw new BlockException(e.Message, Errno.Inval); }
        }
        foreach (BlockEdge edge in Children)
            if (edge != _backingEdge) edge.Change(BlockUse.Format(isReadOnly));
        lock (_store.Sync) _store.Reopen(isReadOnly);
    }

    /// <summary>Allocates every cluster; for new images.</summary>
    internal void Preallocate()
    {
        PrepareForWriting();
        lock (_store.Sync) _writer.AllocateAll();
    }

    protected override async ValueTask ReadCore(long offset, ScatterList buffers)
    {
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, buffers.Length, exclusive: false)
            .ConfigureAwait(false);
        try { await ReadMappedAsync(offset, buffers).ConfigureAwait(false); }
        finally { _clusters.Release(hold); }
    }

    protected override async ValueTask WriteCore(long offset, ScatterList buffers)
    {
        PrepareForWriting();
        MarkDirty(offset, buffers.Length);
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, buffers.Length, exclusive: false)
            .ConfigureAwait(false);
        try
        {
            long done = await _writer.WriteInPlaceAsync(offset, buffers).ConfigureAwait(false);
            if (done == buffers.Length) return;
            offset += done;
            buffers = buffers.Slice(done, buffers.Length - done);
        }
        finally { _clusters.Release(hold); }

        hold = await HoldAsync(offset, buffers.Length, exclusive: true).ConfigureAwait(false);
        try { await _writer.WriteAsync(offset, buffers).ConfigureAwait(false); }
        finally { _clusters.Release(hold); }
    }

    protected override async ValueTask DiscardCore(long offset, long length)
    {
        PrepareForWriting();
        MarkDirty(offset, length);
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, length, exclusive: true).ConfigureAwait(false);
        try
        {
            for (long end = offset + length; NextRun(ref offset, end, out long run, out bool isWhole); offset += run)
                if (isWhole)
                    lock (_store.Sync) _writer.Discard(offset, run);
        }
        finally { _clusters.Release(hold); }
    }

    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) =>
        WriteZeroesAsync(offset, length, mayUnmap, isLasting: false);

    async ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap, bool isLasting)
    {
        PrepareForWriting();
        MarkDirty(offset, length);
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, length, exclusive: true).ConfigureAwait(false);
        try
        {
            for (long end = offset + length; NextRun(ref offset, end, out long run, out bool isWhole); offset += run)
            {
                bool done = false;
                if (isWhole)
                    lock (_store.Sync) done = _writer.WriteZeroes(offset, run, mayUnmap, isLasting);
                if (!done && isLasting)
                    await _writer.WriteAsync(offset, ScatterLists.Zeroes(run)).ConfigureAwait(false);
                else if (!done) await _writer.WritePlainZeroesAsync(offset, run).ConfigureAwait(false);
            }
        }
        finally { _clusters.Release(hold); }
    }

    /// <summary>Reads guest bytes whose clusters the caller holds.</summary>
    internal async ValueTask ReadMappedAsync(long offset, ScatterList buffers)
    {
        for (long done = 0; done < buffers.Length;)
        {
            Extent extent;
            lock (_store.Sync) extent = _store.Mapping.Find(offset + done, buffers.Length - done);
            ScatterList part = buffers.Slice(done, extent.Length);
            switch (extent.Kind)
            {
                case ExtentKind.Data: await _store.ReadDataAsync(extent.HostOffset, part).ConfigureAwait(false); break;
                case ExtentKind.Compressed: await _compressed.ReadAsync(extent.Entry, offset + done, part)
                    .ConfigureAwait(false); break;
                case ExtentKind.Unallocated when Backing != null: await ReadBackingAsync(offset + done, part)
                    .ConfigureAwait(false); break;
                default: part.Clear(); break;
            }
            done += extent.Length;
        }
    }

    protected override ValueTask<BlockStatus> StatusCore(long offset, long length)
    {
        Extent extent;
        lock (_store.Sync) extent = _store.Mapping.Find(offset, length);
        return new(extent.Kind switch
        {
            ExtentKind.Zero => BlockStatus.Zero(extent.Length),
            ExtentKind.Unallocated when Backing == null => BlockStatus.Zero(extent.Length, isAllocated: false),
            ExtentKind.Unallocated => BlockStatus.Below(extent.Length),
            ExtentKind.Compressed => BlockStatus.Data(extent.Length) with { IsCompressed = true },
            _ when _store.IsEncrypted => BlockStatus.Data(extent.Length),
            _ => BlockStatus.Data(extent.Length) with { HostNode = _store.Data, HostOffset = extent.HostOffset },
        });
    }

    /// <summary>Whether the range reads as zeros without looking at any data. Under the store's lock.</summary>
    internal bool IsKnownZero(long offset, long length)
    {
        while (length > 0)
        {
            Extent extent = _store.Mapping.Find(offset, length);
            bool isZero = extent.Kind == ExtentKind.Zero
                          || (extent.Kind == ExtentKind.Unallocated && (Backing == null || offset >= Backing.Length));
            if (!isZero) return false;
            offset += extent.Length;
            length -= extent.Length;
        }
        return true;
    }

    async ValueTask ReadBackingAsync(long offset, ScatterList buffers)
    {
        long inside = Math.Clamp(Backing!.Length - offset, 0, buffers.Length);
        if (inside > 0) await Backing.ReadAsync(offset, buffers.Slice(0, inside)).ConfigureAwait(false);
        buffers.Slice(inside, buffers.Length - inside).Clear();    // a shorter backing file goes on in zeros
    }

    bool IsDirty => (Info.Header.Incompatible & Qcow2Features.Dirty) != 0;

    /// <summary>Before the first change, and not at opening, so that an image that nobody writes to stays what it was:
    /// counts what lazy refcounts left uncounted, says that bitmaps are in use, and clears the autoclear bits that are
    /// not known, since what they vouch for will not be kept up to date. "Header", autoclear_features: "before the
    /// image is written to".</summary>
    void PrepareForWriting()
    {
        if (!_isUntouched) return;
        lock (_store.Sync)
        {
            if (!_isUntouched || IsReadOnly) return;
            _store.CheckWritable();
            Qcow2Header header = Info.Header;
            if (IsDirty)
            {
                Qcow2Repair.RebuildRefcounts(_store, Info.Extensions);
                _store.Flush();
                _store.FlushFile();
                _store.SetFeature(Qcow2Header.IncompatibleAt, header.Incompatible & ~Qcow2Features.Dirty);
                header.Incompatible &= ~Qcow2Features.Dirty;
            }
            UseBitmaps();
            ulong kept = header.Autoclear & (Qcow2Features.AutoclearRawData
                | (_bitmaps.Count > 0 ? Qcow2Features.AutoclearBitmaps : 0));
            if (header.Autoclear != kept)
            {
                _store.SetFeature(Qcow2Header.AutoclearAt, kept);
                _store.FlushFile();                                // before any data
                header.Autoclear = kept;
            }
            _store.BeginLazy();
            _isUntouched = false;
        }
    }

    ValueTask<LinkedListNode<RangeLock.Hold>> HoldAsync(long offset, long length, bool exclusive) =>
        _clusters.AcquireAsync(offset >> _layout.ClusterBits, ((offset + length - 1) >> _layout.ClusterBits) + 1,
            exclusive);

    /// <summary>Cuts a range into a partial cluster, whole clusters, a partial cluster. The end of the disk ends a
    /// cluster.</summary>
    bool NextRun(ref long offset, long end, out long length, out bool isWhole)
    {
        length = end - offset;
        isWhole = false;
        if (length <= 0) return false;
        long skip = _layout.OffsetInCluster(offset), tail = end == Length ? 0 : _layout.OffsetInCluster(end);
        if (skip != 0) length = Math.Min(length, _layout.ClusterSize - skip);
        else if (length - tail > 0)
        {
            length -= tail;
            isWhole = true;
        }
        return true;
    }
}
