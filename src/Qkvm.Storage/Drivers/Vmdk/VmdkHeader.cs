using System.Buffers.Binary;

namespace Qkvm.Storage.Drivers.Vmdk;

/// <summary>The first sector of a hosted sparse extent. Spec: VMware, Virtual Disk Format 1.1, "Hosted Sparse
/// Extents". Numbers are sectors where nothing else is said.</summary>
sealed class VmdkHeader
{
    public const int Size = 512, MaxEntriesPerTable = 512;
    public const uint NewLineTest = 1, Redundant = 2, ZeroGrains = 4, Compressed = 0x1_0000, Markers = 0x2_0000;
    public const ulong AtEnd = ulong.MaxValue;                     // the grain directory: a footer says where it is

    public uint Version { get; init; } = 1;
    public uint Flags { get; init; } = NewLineTest | Redundant;
    public ulong Capacity { get; init; }
    public ulong GrainSize { get; init; } = 128;
    public ulong DescriptorOffset { get; init; } = 1;
    public ulong DescriptorSize { get; init; } = 20;
    public uint EntriesPerTable { get; init; } = MaxEntriesPerTable;
    public ulong RedundantDirectory { get; init; }
    public ulong Directory { get; init; }
    public ulong Overhead { get; init; }
    public bool IsUnclean { get; init; }

    /// <summary>1 deflate.</summary>
    public ushort Compression { get; init; }

    public bool IsCompressed => (Flags & Compressed) != 0;
    public bool HasZeroGrains => (Flags & ZeroGrains) != 0;
    public bool IsRedundant => (Flags & Redundant) != 0;
    public long GrainBytes => (long)GrainSize * 512;

    public static VmdkHeader? ReadFrom(ReadOnlySpan<byte> data, out string wrong)
    {
        uint U32(ReadOnlySpan<byte> from, int at) => BinaryPrimitives.ReadUInt32LittleEndian(from[at..]);
        ulong U64(ReadOnlySpan<byte> from, int at) => BinaryPrimitives.ReadUInt64LittleEndian(from[at..]);
        var header = new VmdkHeader
        {
            Version = U32(data, 4), Flags = U32(data, 8), Capacity = U64(data, 12), GrainSize = U64(data, 20),
            DescriptorOffset = U64(data, 28), DescriptorSize = U64(data, 36), EntriesPerTable = U32(data, 44),
            RedundantDirectory = U64(data, 48), Directory = U64(data, 56), Overhead = U64(data, 64),
            IsUnclean = data[72] != 0, Compression = BinaryPrimitives.ReadUInt16LittleEndian(data[77..]),
        };
        const ulong MaxSector = 1UL << 48;
        wrong = !data.StartsWith("KDMV"u8) ? "Image not in VMDK format"
            : header.Version is 0 or > 3 ? $"Unsupported VMDK version {header.Version}"
            : header.EntriesPerTable is 0 or > MaxEntriesPerTable ? "L2 table size too big"
            : !ulong.IsPow2(header.GrainSize) || header.GrainSize is < 8 or > 0x20_0000
                ? "Invalid granularity, image may be corrupt"
            : header.Capacity > MaxSector ? "L1 size too big"
            : (header.Directory > MaxSector && header.Directory != AtEnd) || header.RedundantDirectory > MaxSector
                || header.DescriptorOffset > MaxSector ? "Invalid grain directory"
            : (header.Flags & NewLineTest) != 0 && !data.Slice(73, 4).SequenceEqual("\n \r\n"u8)
                ? "its line ends were converted, the image is corrupt"
            : header.Compression > 1 || (header.IsCompressed && header.Compression != 1)
                ? $"Unsupported compression algorithm {header.Compression}" : "";
        return wrong == "" ? header : null;
    }

    public byte[] ToBytes()
    {
        var data = new byte[Size];
        void Put(int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(data.AsSpan(at), value);
        "KDMV"u8.CopyTo(data);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(4), Version);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(8), Flags);
        Put(12, Capacity);
        Put(20, GrainSize);
        Put(28, DescriptorOffset);
        Put(36, DescriptorSize);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(44), EntriesPerTable);
        Put(48, RedundantDirectory);
        Put(56, Directory);
        Put(64, Overhead);
        "\n \r\n"u8.CopyTo(data.AsSpan(73));
        BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan(77), Compression);
        return data;
    }
}
