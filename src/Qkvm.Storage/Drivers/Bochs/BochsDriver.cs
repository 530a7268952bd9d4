using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Bochs;

/// <summary>Format <c>bochs</c>: Bochs' growing images, read. Spec: Bochs developers' guide, "Disk images", and
/// iodev/hdimage/hdimage.h.</summary>
public sealed class BochsDriver : ImageNode
{
    public static readonly BlockDriverModel Model = new("bochs", [Property.Node("file", "the image")],
        static (_, parts) => Open(parts.File, ReadOnlyOptions(parts)))
    {
        Description = "Bochs' growing images; read-only",
    };

    const int SectorSize = 512, HeaderLength = 512, TextSize = 16, TypeAt = 32, SubtypeAt = 48;

    // numbers of the header
    const int VersionAt = 64, HeaderSizeAt = 68, CatalogAt = 72, BitmapAt = 76, ExtentAt = 80, OldDiskAt = 84,
        DiskAt = 88;
    const uint OldVersion = 0x0001_0000, Version = 0x0002_0000, Unallocated = 0xFFFF_FFFF;

    ImageTable _catalog = null!;
    int _extentSize = 64 << 10, _bitmapBytes;
    long _data, _length;
    (long Offset, byte[] Bits) _bitmap = (-1, []);                 // the one that was used last

    BochsDriver(BlockDriver file, NodeOptions options) : base(file, options) { }

    public static BochsDriver Open(BlockDriver file, NodeOptions options) => Opened(new BochsDriver(file, options));

    public override string FormatName => Model.Name;
    public override long Length => _length;
    private protected override int BlockSize => _extentSize;

    protected override void Load()
    {
        byte[] header = ReadFile(0, HeaderLength);
        uint version = U32(VersionAt), start = U32(HeaderSizeAt), entries = U32(CatalogAt), bitmap = U32(BitmapAt),
            extent = U32(ExtentAt);
        if (!header.AsSpan().StartsWith("Bochs Virtual HD Image"u8) || !Is(TypeAt, "Redolog"u8)
            || !Is(SubtypeAt, "Growing"u8) || version is not (OldVersion or Version))
            throw Bad("Image not in Bochs format");
        ulong disk = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(version == Version ? DiskAt : OldDiskAt));
        if (disk > long.MaxValue) throw Bad("Image is too big");
        if (!uint.IsPow2(extent) || extent < SectorSize) throw Bad($"Extent size must be a power of two, not {extent}");
        if (extent > 0x80_0000) throw Bad($"Extent size {extent} is too big");
        if (bitmap < extent / SectorSize / 8 || bitmap > 1 << 20) throw Bad($"Bitmap size {bitmap} is impossible");
        if (entries > int.MaxValue / 4) throw Bad("Catalog size is too big");
        if (entries < (disk + extent - 1) / extent)
            throw Bad($"Catalog size {entries} is too small for disk of {disk} bytes");
        _extentSize = (int)extent;
        _bitmapBytes = (int)(bitmap + SectorSize - 1) / SectorSize * SectorSize;
        _data = start + entries * 4L;
        _length = Sectors(disk);
        _catalog = new ImageTable(File, start, entries, sizeof(uint), isBigEndian: false, static () => { });

        uint U32(int at) => BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(at));
        bool Is(int at, ReadOnlySpan<byte> text) => header.AsSpan(at, TextSize).TrimEnd((byte)0).SequenceEqual(text);
    }

    private protected override ImageRun Find(long offset, long length)
    {
        long inExtent = offset % _extentSize, found = Math.Min(length, _extentSize - inExtent);
        ulong entry = _catalog[offset / _extentSize];
        if (entry == Unallocated) return new(RunKind.Unallocated, found);
        long at = _data + (long)entry * (_bitmapBytes + _extentSize);
        byte[] bits = Bitmap(at);
        long sector = inExtent / SectorSize, run = SectorSize - offset % SectorSize;
        bool isThere = IsSet(sector);
        while (run < found && IsSet(++sector) == isThere) run += SectorSize;
        run = Math.Min(run, found);
        return isThere ? new(RunKind.Data, run, at + _bitmapBytes + inExtent) : new(RunKind.Unallocated, run);

        bool IsSet(long index) => (bits[index / 8] >> (int)(index % 8) & 1) != 0;
    }

    byte[] Bitmap(long at)
    {
        if (_bitmap.Offset != at) _bitmap = (at, ReadFile(at, _bitmapBytes));
        return _bitmap.Bits;
    }
}
