using System.Buffers.Binary;
using System.Numerics;

namespace Qkvm.Storage.Drivers.Vhdx;

/// <summary>Numbers and identifiers of the format. Spec: [MS-VHDX].</summary>
static class VhdxFormat
{
    public const int Mebibyte = 1 << 20, SectorSize = 4096;        // of the log and the tables
    public const int HeaderAt = 64 << 10, SecondHeaderAt = 128 << 10, RegionsAt = 192 << 10,
        SecondRegionsAt = 256 << 10, RegionTableSize = 64 << 10;

    public static readonly Guid BlockTableRegion = new("2DC27766-F623-4200-9D64-115E9BFD4A08"),
        MetadataRegion = new("8B7CA206-4790-4B9A-B8FE-575F050F886E"),
        FileParameters = new("CAA16737-FA36-4D43-B3B6-33F0AA44E76B"),
        DiskSize = new("2FA54224-CD1B-4876-B211-5DBED83BF4B8"),
        DiskId = new("BECA12AB-B2E6-4523-93EF-C309E000C746"),
        LogicalSectorSize = new("8141BF1D-A96F-4709-BA47-F233A8FAAB5F"),
        PhysicalSectorSize = new("CDA348C7-445D-4471-9CC9-E9885251C556"),
        ParentLocator = new("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C");

    /// <summary>CRC-32C of data whose checksum field counts as zeros.</summary>
    public static uint Checksum(ReadOnlySpan<byte> data, int fieldAt = 4)
    {
        uint crc = uint.MaxValue;
        for (int i = 0; i < data.Length;)
        {
            if (i % 8 == 0 && data.Length - i >= 8 && (fieldAt >= i + 8 || fieldAt + 4 <= i))
            {
                crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(data[i..]));
                i += 8;
                continue;
            }
            crc = BitOperations.Crc32C(crc, i >= fieldAt && i < fieldAt + 4 ? (byte)0 : data[i]);
            i++;
        }
        return ~crc;
    }

    /// <summary>Puts the checksum into its field.</summary>
    public static void Seal(Span<byte> data) => BinaryPrimitives.WriteUInt32LittleEndian(data[4..], Checksum(data));

    public static bool IsSealed(ReadOnlySpan<byte> data) =>
        BinaryPrimitives.ReadUInt32LittleEndian(data[4..]) == Checksum(data);

    /// <summary>The signature at the start of a structure.</summary>
    public static bool Is(ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature) => data.StartsWith(signature);
}

/// <summary>One of two headers, of which the one with the larger sequence number counts. [MS-VHDX] 2.2.2.</summary>
sealed record VhdxHeader(ulong Sequence, Guid FileWriteId, Guid DataWriteId, Guid LogId, uint LogLength,
    ulong LogOffset)
{
    public const int Size = 4096;

    /// <summary>Null where there is none, or one of a version that is not known.</summary>
    public static VhdxHeader? ReadFrom(ReadOnlySpan<byte> data)
    {
        if (!VhdxFormat.Is(data, "head"u8) || !VhdxFormat.IsSealed(data[..Size])) return null;
        if (BinaryPrimitives.ReadUInt16LittleEndian(data[66..]) != 1) return null;
        return new VhdxHeader(BinaryPrimitives.ReadUInt64LittleEndian(data[8..]), new Guid(data.Slice(16, 16)),
            new Guid(data.Slice(32, 16)), new Guid(data.Slice(48, 16)),
            BinaryPrimitives.ReadUInt32LittleEndian(data[68..]), BinaryPrimitives.ReadUInt64LittleEndian(data[72..]));
    }

    public byte[] ToBytes()
    {
        var data = new byte[Size];
        "head"u8.CopyTo(data);
        BinaryPrimitives.WriteUInt64LittleEndian(data.AsSpan(8), Sequence);
        FileWriteId.TryWriteBytes(data.AsSpan(16));
        DataWriteId.TryWriteBytes(data.AsSpan(32));
        LogId.TryWriteBytes(data.AsSpan(48));
        BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan(66), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(68), LogLength);
        BinaryPrimitives.WriteUInt64LittleEndian(data.AsSpan(72), LogOffset);
        VhdxFormat.Seal(data);
        return data;
    }
}

/// <summary>What the region table and the metadata say of the disk. [MS-VHDX] 2.2.3 and 2.6.</summary>
sealed class VhdxLayout
{
    const int EntrySize = 32, MaxRegions = 2047, MaxItems = 2047, MetadataTableSize = 64 << 10;

    public long TableOffset { get; private set; }
    public long TableLength { get; private set; }
    public long MetadataOffset { get; private set; }
    public long MetadataLength { get; private set; }
    public int BlockSize { get; private set; }
    public long DiskSize { get; private set; }
    public int LogicalSectorSize { get; private set; }

    /// <summary>Payload blocks per sector bitmap block. [MS-VHDX] 2.5.</summary>
    public long ChunkRatio => (1L << 23) * LogicalSectorSize / BlockSize;
    public long Blocks => (DiskSize + BlockSize - 1) / BlockSize;

    /// <summary>Where a payload block's entry stands.</summary>
    public long EntryOf(long block) => block + block / ChunkRatio;

    /// <summary>What is wrong, or null.</summary>
    public string? ReadRegions(ReadOnlySpan<byte> data)
    {
        if (!VhdxFormat.Is(data, "regi"u8) || !VhdxFormat.IsSealed(data[..VhdxFormat.RegionTableSize]))
            return "no valid region table";
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(data[8..]);
        if (count > MaxRegions) return "too many regions";
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> entry = data.Slice(16 + i * EntrySize, EntrySize);
            var id = new Guid(entry[..16]);
            ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
            uint length = BinaryPrimitives.ReadUInt32LittleEndian(entry[24..]);
            bool isRequired = (entry[28] & 1) != 0;
            if (offset < VhdxFormat.Mebibyte || offset % VhdxFormat.Mebibyte != 0
                || length % VhdxFormat.Mebibyte != 0 || length == 0 || offset > 1UL << 60)
                return $"region {i} lies at 0x{offset:x}";
            if (id == VhdxFormat.BlockTableRegion) (TableOffset, TableLength) = ((long)offset, length);
            else if (id == VhdxFormat.MetadataRegion) (MetadataOffset, MetadataLength) = ((long)offset, length);
            else if (isRequired) return $"unknown required region {id}";
        }
        return TableOffset == 0 || MetadataOffset == 0 ? "a region is missing"
            : TableOffset < MetadataOffset + MetadataLength && MetadataOffset < TableOffset + TableLength
                ? "its regions overlap" : null;
    }

    /// <param name="data">The metadata region, or its first MiB.</param>
    public string? ReadMetadata(ReadOnlySpan<byte> data)
    {
        if (!VhdxFormat.Is(data, "metadata"u8)) return "no metadata table";
        int count = BinaryPrimitives.ReadUInt16LittleEndian(data[10..]);
        if (count > MaxItems) return "too many metadata items";
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> entry = data.Slice(32 + i * EntrySize, EntrySize);
            var id = new Guid(entry[..16]);
            uint offset = BinaryPrimitives.ReadUInt32LittleEndian(entry[16..]),
                length = BinaryPrimitives.ReadUInt32LittleEndian(entry[20..]);
            bool isRequired = (entry[24] & 4) != 0;
            if (offset < MetadataTableSize || length < 4 || offset > data.Length - 16)
                return $"metadata item {i} lies at 0x{offset:x}";
            ReadOnlySpan<byte> item = data[(int)offset..];
            if (id == VhdxFormat.FileParameters)
            {
                uint size = BinaryPrimitives.ReadUInt32LittleEndian(item);
                if (!uint.IsPow2(size) || size is < VhdxFormat.Mebibyte or > 256 * VhdxFormat.Mebibyte)
                    return $"a block size of {size}";
                if ((item[4] & 2) != 0) return "it lies over another image, which is not supported";
                BlockSize = (int)size;
            }
            else if (id == VhdxFormat.DiskSize) DiskSize = (long)BinaryPrimitives.ReadUInt64LittleEndian(item);
            else if (id == VhdxFormat.LogicalSectorSize)
                LogicalSectorSize = BinaryPrimitives.ReadInt32LittleEndian(item);
            else if (isRequired && id != VhdxFormat.DiskId && id != VhdxFormat.PhysicalSectorSize)
                return $"unknown required metadata item {id}";
        }
        const long mostBytes = 64L << 40;
        return BlockSize == 0 ? "no block size" : LogicalSectorSize is not (512 or 4096)
            ? $"a sector size of {LogicalSectorSize}" : DiskSize is < 0 or > mostBytes || DiskSize % 512 != 0
            ? $"a disk of {DiskSize} bytes" : Blocks > 0 && (EntryOf(Blocks - 1) + 1) * sizeof(ulong) > TableLength
            ? "its block allocation table is too small" : null;
    }
}
