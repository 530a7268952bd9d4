using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Parallels;

/// <summary>Format <c>parallels</c>: Parallels' expanding images, read. Spec: QEMU
/// docs/interop/parallels.txt.</summary>
/// <remarks>Deviations: images are not written; the format extension (dirty bitmaps) is not read.</remarks>
public sealed class ParallelsDriver : ImageNode, ICheckable
{
    public static readonly BlockDriverModel Model = new("parallels", [Property.Node("file", "the image")],
        static (_, parts) => Open(parts.File, ReadOnlyOptions(parts))) { Description = "Parallels' images; read-only" };

    const int HeaderSize = 64, SectorSize = 512;

    // fields of the header
    const int VersionAt = 16, TracksAt = 28, EntriesAt = 32, SectorsAt = 36, KnownVersion = 2;

    ImageTable _table = null!;
    int _clusterSize = 1 << 20;
    long _unit = SectorSize;                                       // bytes that an entry of the table counts
    long _length;

    ParallelsDriver(BlockDriver file, NodeOptions options) : base(file, options) { }

    public static ParallelsDriver Open(BlockDriver file, NodeOptions options) =>
        Opened(new ParallelsDriver(file, options));

    public override string FormatName => Model.Name;
    public override long Length => _length;
    private protected override int BlockSize => _clusterSize;

    /// <inheritdoc/>
    public ValueTask<CheckResult> CheckAsync(Repair repair, Action<string> report) =>
        new(Check(report, countsClusters: true));

    protected override void Load()
    {
        byte[] header = ReadFile(0, HeaderSize);
        bool isExtended = header.AsSpan().StartsWith("WithouFreSpacExt"u8);
        if (!isExtended && !header.AsSpan().StartsWith("WithoutFreeSpace"u8))
            throw Bad("Image not in Parallels format");
        uint version = U32(VersionAt), tracks = U32(TracksAt), entries = U32(EntriesAt);
        ulong sectors = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(SectorsAt));
        if (!isExtended) sectors = (uint)sectors;                  // the upper half is not of the older variant
        if (version != KnownVersion) throw Bad($"Image version {version} is not {KnownVersion}");
        if (tracks == 0) throw Bad("Invalid image: Zero sectors per track");
        if (tracks > int.MaxValue / 513) throw Bad("Invalid image: Too big cluster");
        _clusterSize = (int)tracks * SectorSize;
        _unit = isExtended ? _clusterSize : SectorSize;
        if (sectors > long.MaxValue / SectorSize || sectors > (ulong)entries * tracks)
            throw Bad($"Catalog too small: {entries} clusters of {_clusterSize} bytes for {sectors} sectors");
        _length = (long)sectors * SectorSize;
        _table = new ImageTable(File, HeaderSize, entries, sizeof(uint), isBigEndian: false, static () => { });

        uint U32(int at) => BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(at));
    }

    private protected override ImageRun Find(long offset, long length)
    {
        long inCluster = offset % _clusterSize, found = Math.Min(length, _clusterSize - inCluster);
        long host = (long)_table[offset / _clusterSize] * _unit;
        return host == 0 ? new(RunKind.Unallocated, found) : new(RunKind.Data, found, host + inCluster);
    }
}
