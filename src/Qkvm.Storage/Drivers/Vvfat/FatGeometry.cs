namespace Qkvm.Storage.Drivers.Vvfat;

/// <summary>Where the parts of a FAT disk lie, in sectors. Spec: Microsoft, FAT: General Overview of On-Disk Format,
/// 1.03; sizes are QEMU's.</summary>
/// <param name="Bits">12, 16 or 32: of an entry of the table.</param>
/// <param name="Hidden">Sectors before the volume: a disk's first track, with its partition table; none on a
/// floppy.</param>
sealed record FatGeometry(int Bits, int Cylinders, int Heads, int SectorsPerTrack, int Hidden, int SectorsPerCluster)
{
    public const int Sector = 512;

    /// <param name="bits">0 for the usual.</param>
    public static FatGeometry Of(int bits, bool isFloppy) => (isFloppy, bits) switch
    {
        (true, 0) => new(12, 80, 2, 36, 0, 2),
        (true, 12) => new(12, 80, 2, 18, 0, 1),
        (true, _) => new(16, 80, 2, 36, 0, 1),
        (false, 12) => new(12, 64, 16, 63, 63, 16),
        (false, 32) => new(32, 1024, 16, 63, 63, 8),
        _ => new(16, 1024, 16, 63, 63, 16),
    };

    public int Total => Cylinders * Heads * SectorsPerTrack;

    /// <summary>Of the volume alone.</summary>
    public int VolumeSectors => Total - Hidden;

    public int ClusterSize => SectorsPerCluster * Sector;

    public int ReservedSectors => Bits == 32 ? 32 : 1;

    /// <summary>Entries of the root directory; 0 where it is a chain of clusters as others are.</summary>
    public int RootEntries => Bits switch { 32 => 0, 16 => 512, _ => 224 };

    public int RootSectors => RootEntries * FatEntry.Size / Sector;

    /// <summary>Of one of the two tables: enough for all clusters that fit, some of which the tables
    /// themselves take.</summary>
    public int FatSectors
    {
        get
        {
            int clusters = (VolumeSectors - ReservedSectors - RootSectors) / SectorsPerCluster + 2;
            return (int)(((long)clusters * Bits / 8 + Sector) / Sector);
        }
    }

    /// <summary>The first sector of cluster 2, from the disk's beginning.</summary>
    public int DataStart => Hidden + ReservedSectors + 2 * FatSectors + RootSectors;

    public int Clusters => (Total - DataStart) / SectorsPerCluster;

    public uint EndOfChain => Bits switch { 32 => 0x0FFFFFFF, 16 => 0xFFFF, _ => 0xFFF };
}
