using System.Buffers;
using System.Collections.Concurrent;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Protocols <c>file</c> and <c>host_device</c>: a file or block device of the host by preadv and
/// pwritev.</summary>
/// <remarks>Guest memory goes to the kernel without copies; only misaligned pieces under cache.direct pass a
/// buffer.</remarks>
public sealed partial class FileDriver : BlockNode, IGrowable
{
    static readonly Property[] Declared =
    [
        Property.Text("filename", help: "path"), Property.Enum("locking", "auto", ["on", "off", "auto"],
            "keep other programs out of the image"),
        Property.Enum("aio", "threads", ["threads", "native", "io_uring"], "taken, no effect: threads in any case"),
        Property.Text("aio-max-batch", help: "taken, no effect"), Property.Text("drop-cache", help: "taken, no effect"),
        Property.Text("x-check-cache-dropped", help: "taken, no effect"),
    ];

    public static readonly BlockDriverModel Model = new("file", Declared, static (p, parts) => Create(Model!, p, parts))
    {
        IsProtocol = true,
        Description = "a file of the host",
        Creation = new(RawDriver.Model.Creation!.Properties, RawDriver.Model.Creation.CreateAsync),
    };

    public static readonly BlockDriverModel HostDevice = new("host_device", Declared, static (p, parts) =>
        Create(HostDevice!, p, parts))
    {
        IsProtocol = true,
        Description = "a block device of the host",
    };

    public static readonly BlockDriverModel HostCdrom = new("host_cdrom", Declared, static (p, parts) =>
        Create(HostCdrom!, p, parts))
    {
        IsProtocol = true,
        Description = "a CD-ROM drive of the host, with the medium that lies in it",
    };

    const int BounceSize = 1 << 20;

    HostFile _file;
    FileLocks? _locks;
    bool _noFlush;
    int _alignment = 1;                                            // of O_DIRECT
    readonly RangeLock _directWrites = new();
    readonly ConcurrentBag<AlignedBuffer> _bounce = [];
    long _length;
    bool _mayGrow;
    int _disposed;

    /// <param name="locking">Null for locking=off.</param>
    public FileDriver(HostFile file, NodeOptions options, bool noFlush = false, FileLocks? locking = null)
        : base(options)
    {
        _file = file;
        _transfers = new LoopStep<Transfer>.Pool(home => new Transfer(this, home));
        _noFlush = noFlush;
        _locks = locking;
        _length = Check(file.Length(), "size");
        if (file.IsDirect) _alignment = ProbeAlignment();
    }

    static FileDriver Create(BlockDriverModel model, Properties properties, NodeParts parts)
    {
        bool readOnly = parts.Around.ReadOnly;
        HostFile file = HostImage.Open(properties.Required("filename"), model, ref readOnly, parts.Around);
        if (parts.Around.ForceShare && !readOnly)
            throw new ConfigurationException("force-share=on can only be used with read-only images");
        bool mayLock = !parts.Around.ForceShare && properties.Text("locking") != "off";
        FileLocks? locks = !mayLock ? null : new FileLocks(file,
            required: properties.Text("locking") == "on");
        return new FileDriver(file, parts.Node with { ReadOnly = readOnly }, parts.Around.Cache.NoFlush, locks)
        {
            IsCdrom = model == HostCdrom,
        };
    }

    public override string FormatName => IsCdrom ? HostCdrom.Name
        : _file.Status.IsBlockDevice ? HostDevice.Name : Model.Name;

    bool IsCdrom { get; init; }

    public override string FileName => _file.Path;
    public override ImageFacts Facts => new(_file.AllocatedBytes, Specific: []);
    public override long Length => Volatile.Read(ref _length);
    protected override long Limit => _mayGrow ? long.MaxValue : Length;

    /// <summary>For sending its bytes from the page cache.</summary>
    internal HostFile Host => _file;

    /// <summary>The range is in the file, and in the page cache.</summary>
    /// <param name="length">At least 1.</param>
    internal bool HasCached(long offset, long length) =>
        !_file.IsDirect && offset <= Length - length && _file.IsCached(offset, length);

    /// <summary>Zeroes are a matter of the file system's metadata.</summary>
    internal bool HasFastZeroes => _file.Status.IsRegularFile;

    /// <summary>Takes the image locks that the users of this node need.</summary>
    protected override void OnUse(BlockUse use) => _locks?.Hold(use);

    /// <summary>Writing takes another descriptor; reading alone goes on with the one that there is.</summary>
    protected override ValueTask ReopenAsync(bool isReadOnly)
    {
        if (!isReadOnly && !_file.IsWritable) Exchange(_file.IsDirect, isWritable: true);
        return default;
    }

    /// <summary>Goes on with another descriptor of the file.</summary>
    void Exchange(bool isDirect, bool isWritable)
    {
        HostFile file = _file.Reopen((isWritable ? Libc.ORdWr : Libc.ORdOnly) | (isDirect ? Libc.ODirect : 0),
            out int errno) ?? throw Failed(isWritable ? "open for writing" : "open", errno);
        FileLocks? locks = _locks?.Of(file);
        _locks?.Release();
        try { locks?.Hold(Use); }
        catch (ConfigurationException e)
        {
            _locks?.Hold(Use);
            file.Dispose();
            throw new BlockException(e.Message, Errno.Perm);
        }
        HostFile before = _file;
        (_file, _locks) = (file, locks);
        before.Dispose();
        _alignment = isDirect ? ProbeAlignment() : 1;
    }

    /// <inheritdoc/>
    internal override Action Change(Options options, in Surroundings around)
    {
        (bool noFlush, bool isDirect) before = (_noFlush, _file.IsDirect);
        void Set(bool noFlush, bool isDirect)
        {
            if (isDirect != _file.IsDirect) Exchange(isDirect, _file.IsWritable);
            _noFlush = noFlush;
        }
        Set(around.Cache.NoFlush, around.Cache.Direct);
        return () => Set(before.noFlush, before.isDirect);
    }

    /// <summary>Cuts a file to nothing; a device stays.</summary>
    internal void Clear()
    {
        if (_file.Status.IsBlockDevice) return;
        Check(_file.Truncate(0), "resize");
        _data = null;
        Volatile.Write(ref _length, 0);
    }

    public bool AllowGrowth()
    {
        _mayGrow = true;
        return !_file.Status.IsBlockDevice;
    }

    protected override ValueTask ReadCore(long offset, ScatterList buffers)
    {
        ReadBuffers(offset, buffers);
        return default;
    }

    void ReadBuffers(long offset, ScatterList buffers)
    {
        Memory<byte>[] pieces = ArrayPool<Memory<byte>>.Shared.Rent(IoVector.Capacity);
        try
        {
            for (var vector = new IoVector(buffers, pieces);
                vector.Fill(out ReadOnlySpan<Memory<byte>> batch, out long length);
                 offset += length)
                if (IsAligned(offset, length, batch)) ReadAll(offset, batch, length, pieces);
                else ReadBounced(offset, batch);
        }
        finally { ArrayPool<Memory<byte>>.Shared.Return(pieces, clearArray: true); }
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers)
    {
        if (_file.IsDirect) return WriteDirectAsync(offset, buffers);
        WriteBuffers(offset, buffers);
        return default;
    }

    protected override bool HasFua => true;

    /// <summary>By RWF_DSYNC, which on a disk with such a command spares the flush of its cache.</summary>
    protected override ValueTask WriteFuaCore(long offset, ScatterList buffers)
    {
        if (_noFlush) return WriteCore(offset, buffers);
        if (_file.IsDirect) return ThenFlushAsync(WriteDirectAsync(offset, buffers));
        if (!_file.HasDataSync) return ThenFlushAsync(WriteCore(offset, buffers));
        WriteBuffers(offset, buffers, sync: true);
        return default;
    }

    public override ValueTask FlushAsync()
    {
        if (!_noFlush && !IsReadOnly) Check(_file.DataSync(), "flush");
        return default;
    }

    protected override ValueTask DiscardCore(long offset, long length)
    {
        _data = null;
        long result = _file.Status.IsBlockDevice
            ? _file.DeviceRange(Libc.BlkDiscard, offset, length)
            : _file.Allocate(Libc.FallocPunchHole | Libc.FallocKeepSize, offset, length);
        if (result != -Errno.OpNotSupp) Check(result, "discard");
        return default;
    }

    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap)
    {
        long result = -Errno.OpNotSupp;
        _data = null;
        if (_file.Status.IsBlockDevice)
        {
            if ((offset | length) % 512 == 0) result = _file.DeviceRange(Libc.BlkZeroOut, offset, length);
        }
        else
        {
            if (mayUnmap) result = _file.Allocate(Libc.FallocPunchHole | Libc.FallocKeepSize, offset, length);
            if (result == -Errno.OpNotSupp) result = _file.Allocate(Libc.FallocZeroRange, offset, length);
            if (result >= 0) Refresh();
        }
        if (result is -Errno.OpNotSupp or -Errno.Inval) return WritePlainZeroesAsync(offset, length);
        Check(result, "write zeroes");
        return default;
    }

    public override ValueTask<bool> TryCopyAsync(long offset, BlockDriver source, long sourceOffset, long length,
        bool mayMove)
    {
        if (IsReadOnly || source is not FileDriver from || _file.IsDirect || from._file.IsDirect
            || _file.Status.IsBlockDevice || from._file.Status.IsBlockDevice || sourceOffset + length > from.Length)
            return new(false);
        if (_file.Clone(from._file, sourceOffset, offset, length) < 0)
            for (long done = 0; done < length;)
            {
                if (!mayMove) return new(false);
                long moved = _file.CopyFrom(from._file, sourceOffset + done, offset + done, length - done);
                if (moved <= 0 && done == 0) return new(false);
                if (moved <= 0) Check(moved < 0 ? moved : -Errno.Io, "copy");
                done += moved;
            }
        GrowTo(offset + length);
        return new(true);
    }

    protected override async ValueTask ResizeCore(long length, Preallocation preallocation)
    {
        _data = null;
        if (_file.Status.IsBlockDevice)
            throw new BlockException($"{FileName}: a block device cannot change its size", Errno.OpNotSupp);
        if (preallocation == Preallocation.Metadata)
            throw new BlockException("Unsupported preallocation mode: metadata", Errno.OpNotSupp);
        long old = Length;
        if (preallocation == Preallocation.Falloc && length > old)
            Check(_file.Allocate(0, old, length - old), "preallocate");
        Check(_file.Truncate(length), "resize");
        Volatile.Write(ref _length, length);
        if (preallocation == Preallocation.Full) await WritePlainZeroesAsync(old, length - old).ConfigureAwait(false);
    }

    public override ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return default;
        _locks?.Release();
        _file.Dispose();
        foreach (AlignedBuffer buffer in _bounce) ((IDisposable)buffer).Dispose();
        return default;
    }

    async ValueTask WritePlainZeroesAsync(long offset, long length)
    {
        for (long done = 0; done < length; done += BounceSize)
            await WriteCore(offset + done, ScatterLists.Zeroes(Math.Min(BounceSize, length - done)))
                .ConfigureAwait(false);
    }

    /// <summary>Writes that only partly fill a sector read it first, so nobody else may change it meanwhile.</summary>
    async ValueTask WriteDirectAsync(long offset, ScatterList buffers)
    {
        bool isPartial = (offset | buffers.Length) % _alignment != 0;
        long start = offset / _alignment, end = (offset + buffers.Length + _alignment - 1) / _alignment;
        LinkedListNode<RangeLock.Hold> hold = await _directWrites.AcquireAsync(start, end, isPartial)
            .ConfigureAwait(false);
        try { WriteBuffers(offset, buffers); }
        finally { _directWrites.Release(hold); }
    }

    void WriteBuffers(long offset, ScatterList buffers, bool sync = false)
    {
        Memory<byte>[] pieces = ArrayPool<Memory<byte>>.Shared.Rent(IoVector.Capacity);
        try
        {
            for (var vector = new IoVector(buffers, pieces);
                vector.Fill(out ReadOnlySpan<Memory<byte>> batch, out long length);
                 offset += length)
            {
                if (IsAligned(offset, length, batch)) WriteAll(offset, batch, length, pieces, sync);
                else WriteBounced(offset, batch);
                GrowTo(offset + length);
            }
        }
        finally { ArrayPool<Memory<byte>>.Shared.Return(pieces, clearArray: true); }
    }

    bool IsAligned(long offset, long length, ReadOnlySpan<Memory<byte>> batch) =>
        !_file.IsDirect || ((offset | length) % _alignment == 0 && HostFile.IsAligned(batch, _alignment));

    /// <summary>Reads until full; what lies past the end of the file is zeros. Uses up the batch.</summary>
    void ReadAll(long offset, ReadOnlySpan<Memory<byte>> batch, long length, Memory<byte>[] pieces)
    {
        while (length > 0)
        {
            long done = Check(_file.Read(offset, batch), "read");
            offset += done;
            length -= done;
            batch = IoVector.Skip(batch, done, pieces);
            if (done != 0 && (!_file.IsDirect || done % _alignment == 0)) continue;
            foreach (Memory<byte> piece in batch) piece.Span.Clear();
            return;
        }
    }

    void WriteAll(long offset, ReadOnlySpan<Memory<byte>> batch, long length, Memory<byte>[] pieces,
        bool sync = false)
    {
        while (length > 0)
        {
            long done = Check(sync ? _file.WriteSync(offset, batch) : _file.Write(offset, batch), "write");
            if (done == 0) throw Failed("write", Errno.NoSpc);
            offset += done;
            length -= done;
            batch = IoVector.Skip(batch, done, pieces);
        }
    }

    void ReadBounced(long offset, ReadOnlySpan<Memory<byte>> batch)
    {
        using Bounce bounce = RentBounce();
        foreach (Memory<byte> piece in batch)
            for (Memory<byte> rest = piece; rest.Length > 0;)
            {
                int skip = (int)(offset % _alignment), count = Math.Min(rest.Length, BounceSize - skip);
                ReadSectors(offset - skip, bounce.Memory[..RoundUp(skip + count)]);
                bounce.Memory.Slice(skip, count).CopyTo(rest);
                rest = rest[count..];
                offset += count;
            }
    }

    void WriteBounced(long offset, ReadOnlySpan<Memory<byte>> batch)
    {
        using Bounce bounce = RentBounce();
        foreach (Memory<byte> piece in batch)
            for (Memory<byte> rest = piece; rest.Length > 0;)
            {
                int skip = (int)(offset % _alignment), count = Math.Min(rest.Length, BounceSize - skip);
                Memory<byte> sectors = bounce.Memory[..RoundUp(skip + count)];
                if (sectors.Length != count) ReadSectors(offset - skip, sectors);
                rest[..count].CopyTo(sectors[skip..]);
                Memory<byte>[] one = [sectors];
                WriteAll(offset - skip, one, sectors.Length, one);
                GrowTo(offset - skip + sectors.Length);
                rest = rest[count..];
                offset += count;
            }
    }

    void ReadSectors(long offset, Memory<byte> sectors)
    {
        Memory<byte>[] one = [sectors];
        ReadAll(offset, one, sectors.Length, one);
    }

    int RoundUp(int length) => (length + _alignment - 1) / _alignment * _alignment;

    Bounce RentBounce() =>
        new(_bounce, _bounce.TryTake(out AlignedBuffer? buffer) ? buffer : new AlignedBuffer(BounceSize, 4096));

    void GrowTo(long end)
    {
        for (long seen = Length; seen < end; seen = Length) Interlocked.CompareExchange(ref _length, end, seen);
    }

    void Refresh() => GrowTo(Check(_file.Length(), "size"));

    /// <summary>The smallest sector that O_DIRECT takes here, found by trying.</summary>
    int ProbeAlignment()
    {
        if (_file.SectorSize() is > 0 and int sector) return sector;
        using Bounce bounce = RentBounce();
        for (int size = 512; size < 4096; size *= 2)
            if (_file.Read(0, [bounce.Memory[..size]]) >= 0) return size;
        return 4096;
    }

    long Check(long result, string what) => result >= 0 ? result : throw Failed(what, (int)-result);

    BlockException Failed(string what, int errno) => new($"{_file.Path}: {what}: {Libc.Message(errno)}", errno);

    readonly struct Bounce(ConcurrentBag<AlignedBuffer> pool, AlignedBuffer buffer) : IDisposable
    {
        public Memory<byte> Memory => buffer.Memory;
        public void Dispose() => pool.Add(buffer);
    }
}
