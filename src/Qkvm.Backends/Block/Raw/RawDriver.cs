using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Backends.Block.Raw;

/// <summary>Format <c>raw</c>: the bytes of its child, or a window of them (<c>offset=</c>, <c>size=</c>).</summary>
public sealed class RawDriver : BlockNode, IGrowable
{
    const int SectorSize = 512;

    readonly BlockDriver _file;
    readonly long _offset;
    readonly long? _size;
    readonly long _length;
    readonly bool _guardFormat;
    bool _mayGrow;

    /// <param name="size">Bytes of the window; null for all from the offset on.</param>
    /// <param name="guardFormat">The format was guessed: a guest may not make the image look like another format.</param>
    public RawDriver(BlockDriver file, NodeOptions options, long offset = 0, long? size = null, bool guardFormat = false) : base(options)
    {
        _file = file;
        _offset = offset;
        _size = size;
        _guardFormat = guardFormat;
        if (size == null && file is IGrowable growable) growable.AllowGrowth(); // for the rest of the last sector
        _length = size ?? (Math.Max(0, file.Length - offset) + SectorSize - 1) / SectorSize * SectorSize;
    }

    public override string FormatName => "raw";
    public override string FileName => (_file as BlockNode)?.FileName ?? _file.NodeName;
    public override IEnumerable<(string Role, BlockDriver Node)> Children => [("file", _file)];

    /// <summary>Sectors are whole: what the last one lacks in the file reads as zeros.</summary>
    public override long Length => _mayGrow ? Math.Max(0, _file.Length - _offset) : _length;

    protected override long Limit => _mayGrow ? long.MaxValue - _offset : Length;

    public bool AllowGrowth()
    {
        if (_size != null || _file is not IGrowable file) return false;
        _mayGrow = true;
        return file.AllowGrowth();
    }

    public override ValueTask FlushAsync() => _file.FlushAsync();

    public override ValueTask DisposeAsync() => _file.DisposeAsync();

    protected override ValueTask ReadCore(long offset, ScatterList buffers) => _file.ReadAsync(_offset + offset, buffers);

    protected override ValueTask WriteCore(long offset, ScatterList buffers)
    {
        if (_guardFormat && offset < SectorSize) CheckStaysRaw(offset, buffers);
        return _file.WriteAsync(_offset + offset, buffers);
    }

    protected override bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        bool mustLook = operation == BlockOperation.Write && _guardFormat && offset < SectorSize;
        return !mustLook && _file.TryStart(operation, _offset + offset, buffers, ring, out result);
    }

    protected override ValueTask DiscardCore(long offset, long length) => _file.DiscardAsync(_offset + offset, length);

    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) =>
        _file.WriteZeroesAsync(_offset + offset, length, mayUnmap);

    void CheckStaysRaw(long offset, ScatterList buffers)
    {
        var head = new byte[SectorSize];
        ScatterLists.Wait(_file.ReadAsync(_offset, new ScatterList(head)));
        long count = Math.Min(buffers.Length, SectorSize - offset);
        buffers.Slice(0, count).CopyTo(head.AsSpan((int)offset));
        if (ImageProbe.Detect(head) is { } format)
            throw new BlockException($"{FileName}: the guest's write would turn the image into '{format}', " +
                                     "and its format was only guessed as raw; give format=raw to allow it", Errno.Perm);
    }
}
