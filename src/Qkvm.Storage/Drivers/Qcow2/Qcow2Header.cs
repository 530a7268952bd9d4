using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Incompatible, compatible and autoclear feature bits. Spec: QEMU docs/interop/qcow2.txt, "Header".</summary>
static class Qcow2Features
{
    public const ulong Dirty = 1, Corrupt = 2, ExternalData = 4, CompressionType = 8, ExtendedL2 = 16;
    public const ulong KnownIncompatible = Dirty | Corrupt | ExternalData | CompressionType
        | ExtendedL2;
    public const ulong LazyRefcounts = 1;
    public const ulong AutoclearBitmaps = 1, AutoclearRawData = 2;

    /// <summary>The names that images carry: (type, bit, name).</summary>
    public static readonly (byte Type, byte Bit, string Name)[] Names =
    [
        (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 2, "external data file"), (0, 3, "compression type"),
        (0, 4, "extended L2 entries"), (1, 0, "lazy refcounts"), (2, 0, "bitmaps"), (2, 1, "raw external data"),
    ];
}

/// <summary>The header in the first cluster. Spec: QEMU docs/interop/qcow2.txt, "Header".</summary>
sealed class Qcow2Header
{
    public const uint Magic = 0x514649FB;                          // "QFI" 0xFB
    public const int Version2Length = 72, Version3Length = 104, LongestLength = 112;
    public const int RefcountTableAt = 48, IncompatibleAt = 72, AutoclearAt = 88;
    public const int MaxBackingName = 1023, MaxL1Bytes = 32 << 20, MaxRefcountTableBytes = 8 << 20,
        MaxSnapshots = 65536;

    public uint Version { get; set; } = 3;
    public long BackingOffset { get; set; }
    public int BackingLength { get; set; }
    public int ClusterBits { get; init; }
    public long Size { get; set; }
    public uint Encryption { get; set; }
    public int L1Entries { get; set; }
    public long L1Offset { get; set; }
    public long RefcountTableOffset { get; set; }
    public int RefcountTableClusters { get; set; }
    public int SnapshotCount { get; set; }
    public long SnapshotsOffset { get; set; }
    public ulong Incompatible { get; set; }
    public ulong Compatible { get; set; }
    public ulong Autoclear { get; set; }
    public int RefcountOrder { get; set; } = 4;
    public int HeaderLength { get; set; } = Version2Length;

    /// <summary>0 zlib, 1 zstd.</summary>
    public byte CompressionType { get; set; }

    public int ClusterSize => 1 << ClusterBits;
    public bool HasDataFile => (Incompatible & Qcow2Features.ExternalData) != 0;

    /// <summary>The external data file is the disk, byte by byte.</summary>
    public bool IsDataRaw => HasDataFile && (Autoclear & Qcow2Features.AutoclearRawData) != 0;
    public bool IsExtendedL2 => (Incompatible & Qcow2Features.ExtendedL2) != 0;

    /// <summary>Reads and checks what the fields say about themselves; sizes are bounded afterwards.</summary>
    /// <param name="name">The image, for messages.</param>
    public static Qcow2Header ReadFrom(ReadOnlySpan<byte> data, string name)
    {
        if (data.Length < Version3Length || U32(data, 0) != Magic) throw Bad(name, "Image is not in qcow2 format");
        uint version = U32(data, 4);
        if (version is not (2 or 3))
            throw Bad(name, $"Unsupported qcow2 version {version}; versions 2 and 3 are known");
        bool isOld = version == 2;
        uint clusterBits = U32(data, 20), l1Entries = U32(data, 36), tableClusters = U32(data, 56),
            snapshots = U32(data, 60);
        uint order = isOld ? 4 : U32(data, 96), length = isOld ? Version2Length : U32(data, 100);
        if (clusterBits is < 9 or > 21)
            throw Bad(name, $"Cluster size must be a power of two between 512 and 2048k, not 2^{clusterBits}");
        int clusterSize = 1 << (int)clusterBits;
        if (length > clusterSize || (!isOld && (length < Version3Length || length % 8 != 0)))
            throw Bad(name, $"qcow2 header of {length} bytes is too short or too long");
        if (order > 6) throw Bad(name, "Reference count entry width too large; may not exceed 64 bits");
        if (l1Entries > MaxL1Bytes / 8) throw Bad(name, $"Active L1 table of {l1Entries} entries is too large");
        if (tableClusters > MaxRefcountTableBytes >> (int)clusterBits)
            throw Bad(name, "Reference count table too large");
        if (tableClusters == 0) throw Bad(name, "Image does not contain a reference count table");
        if (snapshots > MaxSnapshots) throw Bad(name, $"Snapshot table of {snapshots} entries is too large");
        ulong size = U64(data, 24), backing = U64(data, 8);
        if (size > long.MaxValue) throw Bad(name, $"Image size {size} is too big");
        uint backingLength = U32(data, 16);
        if (backing != 0
            && (backing > (ulong)clusterSize || backingLength > Math.Min(MaxBackingName, (ulong)clusterSize - backing)))
            throw Bad(name, "Backing file name too long");
        var header = new Qcow2Header
        {
            Version = version,
            BackingOffset = (long)backing,
            BackingLength = backing == 0 ? 0 : (int)backingLength,
            ClusterBits = (int)clusterBits,
            Size = (long)size,
            Encryption = U32(data, 32),
            L1Entries = (int)l1Entries,
            L1Offset = Table(U64(data, 40), l1Entries * 8L, clusterSize, name, "Active L1 table"),
            RefcountTableOffset = Table(U64(data, RefcountTableAt), (long)tableClusters << (int)clusterBits,
                clusterSize, name, "Reference count table"),
            RefcountTableClusters = (int)tableClusters,
            SnapshotCount = (int)snapshots,
            SnapshotsOffset = Table(snapshots == 0 ? 0
                : U64(data, 64), snapshots * 40L, clusterSize, name, "Snapshot table"),
            Incompatible = isOld ? 0 : U64(data, IncompatibleAt),
            Compatible = isOld ? 0 : U64(data, 80),
            Autoclear = isOld ? 0 : U64(data, AutoclearAt),
            RefcountOrder = (int)order,
            HeaderLength = (int)length,
            CompressionType = length > Version3Length && data.Length > Version3Length ? data[Version3Length] : (byte)0,
        };
        header.CheckL1(name);
        return header;
    }

    public void WriteTo(Span<byte> data)
    {
        BinaryPrimitives.WriteUInt32BigEndian(data, Magic);
        BinaryPrimitives.WriteUInt32BigEndian(data[4..], Version);
        BinaryPrimitives.WriteInt64BigEndian(data[8..], BackingOffset);
        BinaryPrimitives.WriteInt32BigEndian(data[16..], BackingLength);
        BinaryPrimitives.WriteInt32BigEndian(data[20..], ClusterBits);
        BinaryPrimitives.WriteInt64BigEndian(data[24..], Size);
        BinaryPrimitives.WriteUInt32BigEndian(data[32..], Encryption);
        BinaryPrimitives.WriteInt32BigEndian(data[36..], L1Entries);
        BinaryPrimitives.WriteInt64BigEndian(data[40..], L1Offset);
        WriteRefcountTable(data[RefcountTableAt..]);
        BinaryPrimitives.WriteInt32BigEndian(data[60..], SnapshotCount);
        BinaryPrimitives.WriteInt64BigEndian(data[64..], SnapshotsOffset);
        if (Version == 2) return;
        BinaryPrimitives.WriteUInt64BigEndian(data[IncompatibleAt..], Incompatible);
        BinaryPrimitives.WriteUInt64BigEndian(data[80..], Compatible);
        BinaryPrimitives.WriteUInt64BigEndian(data[AutoclearAt..], Autoclear);
        BinaryPrimitives.WriteInt32BigEndian(data[96..], RefcountOrder);
        BinaryPrimitives.WriteInt32BigEndian(data[100..], HeaderLength);
        if (HeaderLength > Version3Length) data[Version3Length] = CompressionType;
    }

    /// <summary>The twelve bytes that change when the table moves.</summary>
    public void WriteRefcountTable(Span<byte> data)
    {
        BinaryPrimitives.WriteInt64BigEndian(data, RefcountTableOffset);
        BinaryPrimitives.WriteInt32BigEndian(data[8..], RefcountTableClusters);
    }

    public string BackingName(ReadOnlySpan<byte> firstCluster) =>
        Encoding.UTF8.GetString(firstCluster.Slice((int)BackingOffset, BackingLength));

    /// <summary>Refuses what this driver cannot keep intact.</summary>
    public void CheckFeatures(Qcow2Extensions extensions, bool readOnly, string name)
    {
        if (Encryption == 1)
            throw Bad(name, "Use of AES-CBC encrypted qcow2 images is not supported; qemu-img convert can decrypt it");
        if (Encryption is not (0 or 2)) throw Bad(name, $"Unsupported encryption method {Encryption}");
        ulong unknown = Incompatible & ~Qcow2Features.KnownIncompatible;
        if (unknown != 0) throw Bad(name, $"Unsupported qcow2 feature(s): {extensions.FeatureNames(unknown)}");
        if ((Incompatible & Qcow2Features.Corrupt) != 0 && !readOnly)
            throw Bad(name, "Image is corrupt; cannot be opened read/write. Repair it with qemu-img check -r all, " +
                "or open it with read-only=on");
        if (CompressionType > 1) throw Bad(name, $"Unknown compression type {CompressionType}");
        if (CompressionType != 0 && (Incompatible & Qcow2Features.CompressionType) == 0)
            throw Bad(name, "Compression type is set without its incompatible feature bit");
        if (CompressionType == 0 && (Incompatible & Qcow2Features.CompressionType) != 0)
            throw Bad(name, "Compression type incompatible feature bit must not be set");
        if (IsExtendedL2 && ClusterBits < 14) throw Bad(name, "Extended L2 entries need clusters of at least 16 KiB");
    }

    public void CheckL1(string name)
    {
        int entryBits = ClusterBits - (IsExtendedL2 ? 4 : 3);
        long bytesPerEntry = 1L << (ClusterBits + entryBits);
        long needed = Size / bytesPerEntry + (Size % bytesPerEntry != 0 ? 1 : 0);
        if (needed > L1Entries) throw Bad(name, $"L1 table is too small: {L1Entries} entries for {Size} bytes");
    }

    static long Table(ulong offset, long bytes, int clusterSize, string name, string what)
    {
        if (offset % (ulong)clusterSize != 0 || offset > (1UL << 56) - (ulong)bytes)
            throw Bad(name, $"{what} offset 0x{offset:x} is invalid");
        return (long)offset;
    }

    static uint U32(ReadOnlySpan<byte> data, int at) => BinaryPrimitives.ReadUInt32BigEndian(data[at..]);

    static ulong U64(ReadOnlySpan<byte> data, int at) => BinaryPrimitives.ReadUInt64BigEndian(data[at..]);

    static ConfigurationException Bad(string name, string what) => new($"Could not open '{name}': {what}");
}
