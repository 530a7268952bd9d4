using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Drivers.Vpc;

/// <summary>The sector at the end of a VHD file and, of dynamic disks, at its start. Spec: Microsoft, Virtual Hard Disk
/// Image Format Specification 1.0, "Hard Disk Footer Format".</summary>
sealed class VpcFooter
{
    public const int Size = 512;
    public const uint Fixed = 2, Dynamic = 3, Differencing = 4;
    public const int MostCylinders = 65535, MostHeads = 16, MostSectors = 255;

    const int FeaturesAt = 8, VersionAt = 12, DataOffsetAt = 16, TimeAt = 24, CreatorAt = 28, HostAt = 36,
        OriginalSizeAt = 40, CurrentSizeAt = 48, CylindersAt = 56, HeadsAt = 58, SectorsAt = 59, TypeAt = 60,
        ChecksumAt = 64, IdAt = 68;

    static readonly DateTime s_epoch = new(2000, 1, 1, 0, 0, 0, DateTimeKind.Utc);

    /// <summary>Whose disks are as large as the current size says; all others are what the geometry makes.</summary>
    static readonly string[] s_bySize = ["qem2", "win ", "d2v ", "tap\0", "CTXS"];

    public uint Type { get; init; } = Dynamic;
    public string Creator { get; init; } = "qemu";

    /// <summary>Of the dynamic disk header.</summary>
    public ulong DataOffset { get; init; } = Size;
    public ulong CurrentSize { get; init; }
    public ushort Cylinders { get; init; }
    public byte Heads { get; init; }
    public byte SectorsPerTrack { get; init; }

    public long GeometrySize => (long)Cylinders * Heads * SectorsPerTrack * Size;

    /// <summary>Bytes of the disk.</summary>
    public ulong DiskSize => Creator == "" || s_bySize.Contains(Creator)
        || GeometrySize == (long)MostCylinders * MostHeads * MostSectors * Size ? CurrentSize : (ulong)GeometrySize;

    public static bool IsFooter(ReadOnlySpan<byte> data) => data.StartsWith("conectix"u8);

    /// <summary>Null where the checksum is wrong.</summary>
    public static VpcFooter? ReadFrom(ReadOnlySpan<byte> data)
    {
        if (BinaryPrimitives.ReadUInt32BigEndian(data[ChecksumAt..]) != Checksum(data[..Size], ChecksumAt)) return null;
        return new VpcFooter
        {
            Type = BinaryPrimitives.ReadUInt32BigEndian(data[TypeAt..]),
            Creator = Encoding.Latin1.GetString(data.Slice(CreatorAt, 4)),
            DataOffset = BinaryPrimitives.ReadUInt64BigEndian(data[DataOffsetAt..]),
            CurrentSize = BinaryPrimitives.ReadUInt64BigEndian(data[CurrentSizeAt..]),
            Cylinders = BinaryPrimitives.ReadUInt16BigEndian(data[CylindersAt..]),
            Heads = data[HeadsAt],
            SectorsPerTrack = data[SectorsAt],
        };
    }

    public byte[] ToBytes()
    {
        var data = new byte[Size];
        "conectix"u8.CopyTo(data);
        void Put(int at, uint value) => BinaryPrimitives.WriteUInt32BigEndian(data.AsSpan(at), value);
        Put(FeaturesAt, 2);                                        // a bit that is always set
        Put(VersionAt, 0x0001_0000);
        BinaryPrimitives.WriteUInt64BigEndian(data.AsSpan(DataOffsetAt), Type == Fixed ? ulong.MaxValue : DataOffset);
        Put(TimeAt, (uint)(DateTime.UtcNow - s_epoch).TotalSeconds);
        Encoding.Latin1.GetBytes(Creator, data.AsSpan(CreatorAt));
        Put(CreatorAt + 4, 0x0005_0003);                           // creator version
        "Wi2k"u8.CopyTo(data.AsSpan(HostAt));
        BinaryPrimitives.WriteUInt64BigEndian(data.AsSpan(OriginalSizeAt), CurrentSize);
        BinaryPrimitives.WriteUInt64BigEndian(data.AsSpan(CurrentSizeAt), CurrentSize);
        BinaryPrimitives.WriteUInt16BigEndian(data.AsSpan(CylindersAt), Cylinders);
        (data[HeadsAt], data[SectorsAt]) = (Heads, SectorsPerTrack);
        Put(TypeAt, Type);
        Guid.NewGuid().TryWriteBytes(data.AsSpan(IdAt));
        Put(ChecksumAt, Checksum(data, ChecksumAt));
        return data;
    }

    /// <summary>One's complement of the sum of all bytes but the checksum's own.</summary>
    public static uint Checksum(ReadOnlySpan<byte> data, int checksumAt)
    {
        uint sum = 0;
        for (int i = 0; i < data.Length; i++)
            if (i < checksumAt || i >= checksumAt + 4) sum += data[i];
        return ~sum;
    }
}

/// <summary>Cylinders, heads and sectors of a size. Spec: appendix "CHS Calculation".</summary>
readonly record struct VpcGeometry(ushort Cylinders, byte Heads, byte Sectors)
{
    public long Total => (long)Cylinders * Heads * Sectors;

    public static VpcGeometry Of(long sectors)
    {
        sectors = Math.Min(sectors, (long)VpcFooter.MostCylinders * VpcFooter.MostHeads * VpcFooter.MostSectors);
        if (sectors > 65535L * 16 * 63) return Make(sectors / 255, 16, 255);
        long tracks = sectors / 17, heads = Math.Max(4, (tracks + 1023) / 1024);
        byte perTrack = 17;
        if (tracks >= heads * 1024 || heads > 16) (perTrack, heads) = (31, 16);
        tracks = sectors / perTrack;
        if (tracks >= heads * 1024) (perTrack, heads) = (63, 16);
        return Make(sectors / perTrack, (byte)heads, perTrack);

        static VpcGeometry Make(long tracks, byte heads, byte perTrack) =>
            new((ushort)Math.Min(VpcFooter.MostCylinders, tracks / heads), heads, perTrack);
    }

    /// <summary>The first that is not smaller than a size, or the largest.</summary>
    public static VpcGeometry Covering(long sectors)
    {
        VpcGeometry found = Of(sectors);
        for (long more = 1; found.Total < sectors && found.Total < (long)VpcFooter.MostCylinders * VpcFooter.MostHeads
            * VpcFooter.MostSectors; more++) found = Of(sectors + more);
        return found;
    }
}
