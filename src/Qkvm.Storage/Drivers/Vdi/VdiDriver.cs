using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vdi;

/// <summary>Format <c>vdi</c>: VirtualBox's images, whose blocks of 1 MiB lie in the order of their first
/// writes.</summary>
/// <remarks>Deviations: images over others, and block sizes other than 1 MiB, are refused, as QEMU's.</remarks>
public sealed class VdiDriver : GrowingImage, ICheckable
{
    public static readonly BlockDriverModel Model = new("vdi", [Property.Node("file", "the image")],
        static (_, parts) => Open(parts.File, parts.Node)) {
        Description = "VirtualBox's images", Creation = VdiCreation.Model,
    };

    const uint Unallocated = 0xFFFF_FFFF, Discarded = 0xFFFF_FFFE;

    VdiHeader _header = new();
    ImageTable _map = null!;
    uint _next;                                                    // the first place that no block has
    uint _counted;                                                 // of them, on disk

    VdiDriver(BlockDriver file, NodeOptions options) : base(file, options) { }

    public static VdiDriver Open(BlockDriver file, NodeOptions options) => Opened(new VdiDriver(file, options));

    public override string FormatName => Model.Name;
    public override long Length => Sectors(_header.DiskSize);
    public override ImageFacts Facts => base.Facts with { ClusterSize = VdiHeader.BlockSize };
    private protected override int BlockSize => VdiHeader.BlockSize;
    private protected override bool HasDirty => _map.HasDirty;

    /// <inheritdoc/>
    public ValueTask<CheckResult> CheckAsync(Repair repair, Action<string> report) => new(Check(report));

    protected override void Load()
    {
        _header = VdiHeader.ReadFrom(ReadFile(0, VdiHeader.Size), out string wrong) ?? throw Bad(wrong);
        _map = new ImageTable(File, _header.MapOffset, _header.Blocks, sizeof(uint), isBigEndian: false, WriteBack);
        long inFile = (File.Length - _header.DataOffset + BlockSize - 1) / BlockSize;
        _counted = _header.BlocksAllocated;
        _next = Math.Max(_counted, (uint)Math.Clamp(inFile, 0, _header.Blocks));
    }

    private protected override bool IsLoaded(long offset) => _map.Holds(offset / BlockSize);

    private protected override ImageRun Find(long offset, long length)
    {
        long inBlock = offset % BlockSize, first = offset / BlockSize, found = Math.Min(length, BlockSize - inBlock);
        uint entry = Entry(first);
        for (long next = 1; found < length; next++)
        {
            uint other = Entry(first + next);
            if (other != (entry >= Discarded ? entry : entry + next)) break;
            found = Math.Min(length, found + BlockSize);
        }
        return entry == Unallocated ? new(RunKind.Unallocated, found)
            : entry == Discarded ? new(RunKind.Zero, found)
            : new(RunKind.Data, found, _header.DataOffset + entry * (long)BlockSize + inBlock);
    }

    uint Entry(long block)
    {
        uint entry = (uint)_map[block];
        return entry >= Discarded || entry < _header.Blocks ? entry
            : throw new BlockException($"{FileName}: the image is corrupt: block {block} lies at place {entry} of "
                + $"{_header.Blocks}", Errno.Io);
    }

    private protected override long Allocate(long block)
    {
        if (_next >= _header.Blocks)
            throw new BlockException($"{FileName}: the image is corrupt: its {_header.Blocks} places are all taken",
                Errno.NoSpc);
        return _header.DataOffset + _next++ * (long)BlockSize;
    }

    private protected override void Link(long block, long host) =>
        _map[block] = (ulong)((host - _header.DataOffset) / BlockSize);

    /// <summary>The count first: with it places are given out the next time, by us and by others.</summary>
    private protected override void WriteCounters()
    {
        if (_counted == _next) return;
        var field = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(field, _next);
        ScatterLists.Wait(File.WriteAsync(VdiHeader.BlocksAllocatedAt, new ScatterList(field)));
        _counted = _next;
    }

    private protected override void WriteTables() => _map.Write();
}
