using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vpc;

/// <summary>Format <c>vpc</c>: Microsoft's VHD, fixed and dynamic. Spec: Microsoft, Virtual Hard Disk Image Format
/// Specification 1.0.</summary>
/// <remarks>Deviations: the sector bitmaps of blocks are written full and not read, as QEMU's: what nobody wrote is
/// zeros on disk. Differencing disks are refused.</remarks>
public sealed class VpcDriver : GrowingImage
{
    public static readonly BlockDriverModel Model = new("vpc",
        [Property.Node("file", "the image"),
            Property.Bool("force_size", false, "taken, no effect: it is of new images")],
        static (_, parts) => Open(parts.File, parts.Node)) {
        Description = "Microsoft's VHD images", Creation = VpcCreation.Model,
    };

    const uint Unallocated = 0xFFFF_FFFF;
    const int SectorSize = 512, DynamicHeaderSize = 1024, TableOffsetAt = 16, EntriesAt = 28, BlockSizeAt = 32,
        ChecksumAt = 36;
    const long MostSectors = 0xFF00_0000;                          // 2040 GiB, the specification's limit

    VpcFooter _footer = new();
    byte[] _rawFooter = [];
    ImageTable? _table;                                            // null of a fixed disk
    int _blockSize = 64 << 10, _bitmapSize;
    long _end;                                                     // the first byte that no block has
    long _length;

    VpcDriver(BlockDriver file, NodeOptions options) : base(file, options) { }

    public static VpcDriver Open(BlockDriver file, NodeOptions options) => Opened(new VpcDriver(file, options));

    public override string FormatName => Model.Name;
    public override long Length => _length;
    public override ImageFacts Facts =>
        _table == null ? base.Facts : base.Facts with { ClusterSize = _blockSize };
    private protected override int BlockSize => _blockSize;
    private protected override bool HasDirty => _table is { HasDirty: true };

    protected override void Load()
    {
        _rawFooter = ReadFile(0, VpcFooter.Size);
        bool isDynamic = VpcFooter.IsFooter(_rawFooter);
        if (!isDynamic)
        {
            if (File.Length >= VpcFooter.Size) _rawFooter = ReadFile(File.Length - VpcFooter.Size, VpcFooter.Size);
            if (!VpcFooter.IsFooter(_rawFooter)) throw Bad("invalid VPC image");
        }
        _footer = VpcFooter.ReadFrom(_rawFooter) ?? throw Bad("the footer's checksum is wrong");
        if (_footer.Type == VpcFooter.Differencing) throw Bad("it lies over another image, which is not supported");
        if (_footer.Type != (isDynamic ? VpcFooter.Dynamic : VpcFooter.Fixed))
            throw Bad($"unknown disk type {_footer.Type}");
        if (_footer.DiskSize > (ulong)MostSectors * SectorSize) throw Bad($"{_footer.DiskSize} bytes are too many");
        _length = Sectors(_footer.DiskSize);
        if (isDynamic) LoadDynamic();
        else if (_length > File.Length - VpcFooter.Size) throw Bad("the file is shorter than its disk");
    }

    /// <summary>"Dynamic Disk Header Format".</summary>
    void LoadDynamic()
    {
        if (_footer.DataOffset > (ulong)File.Length - DynamicHeaderSize) throw Bad("the dynamic header is not there");
        byte[] header = ReadFile((long)_footer.DataOffset, DynamicHeaderSize);
        if (!header.AsSpan().StartsWith("cxsparse"u8)) throw Bad("the dynamic header is none");
        if (BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(ChecksumAt)) != VpcFooter.Checksum(header, ChecksumAt))
            throw Bad("the dynamic header's checksum is wrong");
        uint block = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(BlockSizeAt));
        if (!uint.IsPow2(block) || block is < SectorSize or > 256 << 20) throw Bad($"Invalid block size {block}");
        uint entries = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(EntriesAt));
        ulong table = BinaryPrimitives.ReadUInt64BigEndian(header.AsSpan(TableOffsetAt));
        if (entries * (ulong)block < (ulong)_length) throw Bad("Page Table too small");
        if (table > (ulong)File.Length || entries * 4UL > (ulong)File.Length - table)
            throw Bad("the block allocation table is not there");
        _blockSize = (int)block;
        _bitmapSize = (_blockSize / SectorSize / 8 + SectorSize - 1) / SectorSize * SectorSize;
        _table = new ImageTable(File, (long)table, entries, sizeof(uint), isBigEndian: true, WriteBack);
        _end = Math.Max((long)table + (_table.Bytes + SectorSize - 1) / SectorSize * SectorSize,
            (long)_footer.DataOffset + DynamicHeaderSize);
        for (long i = 0; i < entries; i++)
            if (_table[i] is not Unallocated and var sector)
                _end = Math.Max(_end, (long)sector * SectorSize + _bitmapSize + _blockSize);
    }

    private protected override bool IsLoaded(long offset) => _table == null || _table.Holds(offset / _blockSize);

    private protected override ImageRun Find(long offset, long length)
    {
        if (_table == null) return new(RunKind.Data, length, offset);
        long inBlock = offset % _blockSize, found = Math.Min(length, _blockSize - inBlock);
        ulong sector = _table[offset / _blockSize];
        return sector == Unallocated ? new(RunKind.Unallocated, found)
            : new(RunKind.Data, found, (long)sector * SectorSize + _bitmapSize + inBlock);
    }

    private protected override long Allocate(long block)
    {
        if (_end / SectorSize >= Unallocated) throw new BlockException($"{FileName}: the image is full", Errno.NoSpc);
        long host = _end + _bitmapSize;
        _end = host + _blockSize;
        return host;
    }

    /// <summary>The bitmap takes the place of the footer before: the next flush writes one at the new end, and until
    /// then the copy at the start serves.</summary>
    private protected override ValueTask PrepareAsync(long host)
    {
        var bitmap = new byte[_bitmapSize];
        bitmap.AsSpan().Fill(0xFF);
        return File.WriteAsync(host - _bitmapSize, new ScatterList(bitmap));
    }

    private protected override void Link(long block, long host) =>
        _table![block] = (ulong)((host - _bitmapSize) / SectorSize);

    private protected override void WriteCounters() =>
        ScatterLists.Wait(File.WriteAsync(_end, new ScatterList(_rawFooter)));

    private protected override void WriteTables() => _table!.Write();

    /// <summary>A fixed disk has its footer behind it, and nothing to flush but the file.</summary>
    protected override async ValueTask CloseAsync()
    {
        if (_table != null) await base.CloseAsync().ConfigureAwait(false);
    }
}
