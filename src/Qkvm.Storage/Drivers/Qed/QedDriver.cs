using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Qed;

/// <summary>Format <c>qed</c>: QEMU's enhanced disks, read. Spec: QEMU docs/interop/qed_spec.txt.</summary>
/// <remarks>Deviations: images are not written; one that was not closed cleanly reads as its tables say.</remarks>
public sealed class QedDriver : ImageNode, ICheckable
{
    public static readonly BlockDriverModel Model = new("qed",
        [Property.Node("file", "the image"), Property.Node("backing", "what the image lies over; the header says so by "
            + "default")],
        static (_, parts) => Open(parts.File, ReadOnlyOptions(parts), parts.OpenBacking))
    {
        Description = "QEMU's enhanced disks; read-only",
    };

    const int HeaderSize = 64, MaxBackingName = 1023;
    const uint Zero = 1;                                           // an entry that stands for zeros
    const long MaxCacheBytes = 8 << 20;

    // "Header"
    const ulong HasBacking = 1, NeedsCheck = 2, BackingIsRaw = 4, Known = HasBacking | NeedsCheck | BackingIsRaw;

    readonly Func<string?, string?, BlockDriver?> _openBacking;
    ImageTable _l1 = null!;
    ClusterTableCache _l2 = null!;
    long _length, _entriesPerTable;
    int _clusterSize = 64 << 10;
    ulong _features;
    string? _backingFile;

    QedDriver(BlockDriver file, NodeOptions options, Func<string?, string?, BlockDriver?> openBacking)
        : base(file, options) => _openBacking = openBacking;

    /// <param name="openBacking">Given the name and the format that the header has, or nulls.</param>
    public static QedDriver Open(BlockDriver file, NodeOptions options,
        Func<string?, string?, BlockDriver?> openBacking) => Opened(new QedDriver(file, options, openBacking));

    public override string FormatName => Model.Name;
    public override long Length => _length;
    private protected override int BlockSize => _clusterSize;
    public override ImageFacts Facts => base.Facts with
    {
        ClusterSize = _clusterSize, BackingFile = _backingFile, BackingFormat = BackingFormat,
        IsDirty = (_features & NeedsCheck) != 0,
    };

    string? BackingFormat => (_features & BackingIsRaw) != 0 ? "raw" : null;

    /// <inheritdoc/>
    public ValueTask<CheckResult> CheckAsync(Repair repair, Action<string> report) =>
        new(Check(report, countsClusters: true) with { ImageEndOffset = null });

    protected override void Load()
    {
        byte[] header = ReadFile(0, HeaderSize);
        if (!header.AsSpan().StartsWith("QED\0"u8)) throw Bad("Image not in QED format");
        uint cluster = U32(4), table = U32(8), headerClusters = U32(12);
        ulong l1 = U64(40), size = U64(48);
        _features = U64(16);
        if ((_features & ~Known) != 0) throw Bad($"Unsupported QED features: {_features & ~Known:x}");
        if (!uint.IsPow2(cluster) || cluster is < 4096 or > 64 << 20) throw Bad($"Invalid cluster size {cluster}");
        if (!uint.IsPow2(table) || table is 0 or > 16) throw Bad($"Invalid table size {table}");
        _clusterSize = (int)cluster;
        long tableBytes = (long)table * cluster;
        _entriesPerTable = tableBytes / sizeof(ulong);
        if (size % 512 != 0 || size > long.MaxValue
            || (UInt128)size > (UInt128)_entriesPerTable * (ulong)_entriesPerTable * cluster)
            throw Bad($"Invalid image size {size}");
        if (l1 % cluster != 0 || l1 < (ulong)headerClusters * cluster || l1 > (ulong)File.Length)
            throw Bad($"Invalid L1 table offset 0x{l1:x}");
        _length = (long)size;
        _l1 = new ImageTable(File, (long)l1, _entriesPerTable, sizeof(ulong), false, static () => { });
        _l2 = new ClusterTableCache(File, ImageTable.PageSize, MaxCacheBytes, static () => { });
        if ((_features & HasBacking) != 0)
        {
            uint at = U32(56), bytes = U32(60);
            if (bytes > MaxBackingName || at > headerClusters * (ulong)cluster) throw Bad("Invalid backing file name");
            _backingFile = Encoding.UTF8.GetString(ReadFile(at, (int)bytes));
        }
        LieOver(_openBacking(_backingFile, BackingFormat));

        uint U32(int at) => BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(at));
        ulong U64(int at) => BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(at));
    }

    private protected override ImageRun Find(long offset, long length)
    {
        long inCluster = offset % _clusterSize, cluster = offset / _clusterSize;
        long found = Math.Min(length, _clusterSize - inCluster);
        ulong table = _l1[cluster / _entriesPerTable];
        if (table == 0) return new(RunKind.Unallocated, found);
        ulong entry = Entry(Checked(table), cluster % _entriesPerTable);
        return entry switch
        {
            0 => new(RunKind.Unallocated, found),
            Zero => new(RunKind.Zero, found),
            _ => new(RunKind.Data, found, Checked(entry) + inCluster),
        };
    }

    /// <summary>By pages: tables are as large as 1 GiB.</summary>
    ulong Entry(long table, long index)
    {
        long at = index * sizeof(ulong), page = at / ImageTable.PageSize * ImageTable.PageSize;
        return BinaryPrimitives.ReadUInt64LittleEndian(_l2.Get(table + page).Data.AsSpan((int)(at - page)));
    }

    long Checked(ulong offset) => offset % (ulong)_clusterSize == 0 && offset < (ulong)File.Length ? (long)offset
        : throw new BlockException($"{FileName}: the image is corrupt: a table names the offset 0x{offset:x}",
            Errno.Io);
}
