using System.Collections.Concurrent;
using Qkvm.Core.Block;
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

    public override ValueTask FlushAsync()
    {
        if (!_noFlush && !IsReadOnly) Check(_file.DataSync(), "flush");
        return default;
    }

    public override ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return default;
        _locks?.Release();
        _file.Dispose();
        foreach (AlignedBuffer buffer in _bounce) ((IDisposable)buffer).Dispose();
        return default;
    }

    long Check(long result, string what) => result >= 0 ? result : throw Failed(what, (int)-result);

    BlockException Failed(string what, int errno) => new($"{_file.Path}: {what}: {Libc.Message(errno)}", errno);
}
