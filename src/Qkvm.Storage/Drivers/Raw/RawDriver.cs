using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Storage.Drivers.Raw;

/// <summary>Format <c>raw</c>: the bytes of its child, or a window of them (<c>offset=</c>, <c>size=</c>).</summary>
public sealed class RawDriver : BlockNode, IGrowable
{
    public static readonly BlockDriverModel Model = new("raw",
        [Property.Node("file", "what it lies over"), Property.Size("offset", 0, "first byte"),
            Property.Size("size", help: "bytes; to the end by default")],
        Create)
    {
        Description = "the bytes as they are", Reopenable = ["offset", "size"],
        Creation = new([Property.Size("size", help: "Virtual disk size")], CreateAsync)
        {
            MeasureAsync = static measuring =>
            {
                long size = (measuring.Size + SectorSize - 1) / SectorSize * SectorSize;
                return new(new Measurement(size, size));
            },
        },
    };

    const int SectorSize = 512;

    readonly BlockEdge _child;
    long _offset;
    long? _size;
    long _length;
    readonly bool _guardFormat;
    bool _mayGrow;

    BlockDriver File => _child.Node;

    /// <param name="size">Bytes of the window; null for all from the offset on.</param>
    /// <param name="guardFormat">The format was guessed: a guest may not make the image look like another
    /// format.</param>
    public RawDriver(BlockDriver file, NodeOptions options, long offset = 0, long? size = null,
        bool guardFormat = false) : base(options)
    {
        _child = Attach("file", file, default);                  // as its users use it
        _offset = offset;
        _size = size;
        _guardFormat = guardFormat;
        if (size == null && file is IGrowable growable) growable.AllowGrowth(); // for the rest of the last sector
        _length = LengthOf(file, offset, size);
    }

    static long LengthOf(BlockDriver file, long offset, long? size) =>
        size ?? (Math.Max(0, file.Length - offset) + SectorSize - 1) / SectorSize * SectorSize;

    /// <inheritdoc/>
    internal override Action Change(Options options, in Surroundings around)
    {
        (long offset, long? size, long length) before = (_offset, _size, _length);
        long offset = options.Size("offset") ?? 0;
        long? size = options.Size("size");
        if (offset > File.Length || size > File.Length - offset) throw new ConfigurationException(
            $"The sum of offset ({offset}) and size ({size ?? 0}) has to be smaller or equal to the actual size of "
                + $"the containing file ({File.Length})");
        if (size % SectorSize is > 0) throw new ConfigurationException("Specified size is not multiple of 512");
        (_offset, _size, _length) = (offset, size, LengthOf(File, offset, size));
        return () => (_offset, _size, _length) = before;
    }

    static RawDriver Create(Properties properties, NodeParts parts)
    {
        BlockDriver file = parts.File;
        long offset = (long)properties.Size("offset");
        long? size = (long?)properties.NumberOrAuto("size");
        if (offset > file.Length || size > file.Length - offset)
            throw properties.Error($"offset={offset} and size={size} do not lie inside the {file.Length} bytes of "
                + $"'{BlockFactory.NameOf(file)}'");
        if (size is { } bytes && bytes % SectorSize != 0) throw properties.Error("Specified size is not multiple of "
            + "512");
        return new RawDriver(file, parts.Node, offset, size, parts.IsGuess && !parts.Around.ReadOnly);
    }

    static async ValueTask CreateAsync(NewImage image)
    {
        Preallocation mode = image.Options.Text("preallocation") switch
        {
            null or "off" => Preallocation.Off,
            "falloc" => Preallocation.Falloc,
            "full" => Preallocation.Full,
            string other => throw image.Error($"invalid parameter value: {other}"),
        };
        await image.File.ResizeAsync(image.Size, mode).ConfigureAwait(false);
    }

    public override string FormatName => Model.Name;
    public override ImageFacts Facts => new(File.Facts.ActualSize);

    /// <summary>Of its first byte in the node below.</summary>
    internal long Offset => _offset;

    public override string FileName => (File as BlockNode)?.FileName ?? File.NodeName;

    /// <summary>Sectors are whole: what the last one lacks in the file reads as zeros.</summary>
    public override long Length => _mayGrow ? Math.Max(0, File.Length - _offset)
        : Volatile.Read(ref _length);

    protected override long Limit => _mayGrow ? long.MaxValue - _offset : Length;

    public bool AllowGrowth()
    {
        if (_size != null || File is not IGrowable file) return false;
        _mayGrow = true;
        return file.AllowGrowth();
    }

    public override ValueTask FlushAsync() => File.FlushAsync();

    public override ValueTask DisposeAsync() => ReleaseChildrenAsync();

    protected override void OnUse(BlockUse use) => _child.Change(use);

    protected override ValueTask ReopenAsync(bool isReadOnly) => isReadOnly ? default : File.SetReadOnlyAsync(false);

    protected override ValueTask ReadCore(long offset, ScatterList buffers) =>
        File.ReadAsync(_offset + offset, buffers);

    protected override ValueTask WriteCore(long offset, ScatterList buffers)
    {
        if (_guardFormat && offset < SectorSize) CheckStaysRaw(offset, buffers);
        return File.WriteAsync(_offset + offset, buffers);
    }

    protected override ValueTask<BlockStatus> StatusCore(long offset, long length) =>
        File.StatusAsync(_offset + offset, length);

    public override ValueTask<bool> TryCopyAsync(long offset, BlockDriver source, long sourceOffset, long length,
        bool mayMove) => _guardFormat || offset < 0 || length > Limit - offset ? new(false)
            : File.TryCopyAsync(_offset + offset, source, sourceOffset, length, mayMove);

    protected override async ValueTask ResizeCore(long length, Preallocation preallocation)
    {
        if (_size != null) throw new BlockException($"{FileName}: size= fixes the size", Errno.OpNotSupp);
        await File.ResizeAsync(_offset + length, preallocation).ConfigureAwait(false);
        Volatile.Write(ref _length, length);
    }

    protected override bool HasFua => true;

    protected override ValueTask WriteFuaCore(long offset, ScatterList buffers)
    {
        if (_guardFormat && offset < SectorSize) CheckStaysRaw(offset, buffers);
        return File.WriteAsync(_offset + offset, buffers, WriteFlags.Fua);
    }

    protected override bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        bool mustLook = operation == BlockOperation.Write && _guardFormat && offset < SectorSize;
        return !mustLook && File.TryStart(operation, _offset + offset, buffers, ring, out result);
    }

    protected override ValueTask DiscardCore(long offset, long length) => File.DiscardAsync(_offset + offset, length);

    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) =>
        File.WriteZeroesAsync(_offset + offset, length, mayUnmap);

    void CheckStaysRaw(long offset, ScatterList buffers)
    {
        var head = new byte[SectorSize];
        ScatterLists.Wait(File.ReadAsync(_offset, new ScatterList(head)));
        long count = Math.Min(buffers.Length, SectorSize - offset);
        buffers.Slice(0, count).CopyTo(head.AsSpan((int)offset));
        if (ImageProbe.Detect(head) is { } format)
            throw new BlockException($"{FileName}: the guest's write would turn the image into '{format}', " +
                                     "and its format was only guessed as raw; give format=raw to allow it", Errno.Perm);
    }
}
