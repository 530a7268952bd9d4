using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Drivers.Vvfat;

/// <summary>Sectors of a FAT disk that no files are in, as they are read. Spec: FAT overview, "Boot Sector and BPB",
/// "FAT Data Structure".</summary>
sealed class FatVolume(FatGeometry geometry, FatTree tree, string label)
{
    const ushort Signature = 0xAA55;
    const byte Disk = 0xF8, Floppy = 0xF0;
    const uint SerialNumber = 0xFABE1AFD, DiskSignature = 0xBE1AFDFA;
    const int InformationSector = 1, BackupSector = 6;             // of FAT32

    readonly byte _media = geometry.Hidden == 0 ? Floppy : Disk;

    /// <summary>Fills a sector before the data area.</summary>
    public void Read(int sector, Span<byte> target)
    {
        target.Clear();
        if (sector == 0 && geometry.Hidden > 0) PartitionTable(target);
        int inVolume = sector - geometry.Hidden;
        if (inVolume < 0) return;
        int inTables = inVolume - geometry.ReservedSectors, inRoot = inTables - 2 * geometry.FatSectors;
        if (inRoot >= 0) Copy(tree.Root, inRoot * FatGeometry.Sector, target);
        else if (inTables >= 0) Table(inTables % geometry.FatSectors, target);
        else if (inVolume == 0 || (geometry.Bits == 32 && inVolume == BackupSector)) Boot(target);
        else if (geometry.Bits == 32 && inVolume is InformationSector or BackupSector + InformationSector)
            Information(target);
    }

    public static void Copy(ReadOnlySpan<byte> data, int offset, Span<byte> target)
    {
        if (offset >= data.Length) return;
        data[offset..Math.Min(data.Length, offset + target.Length)].CopyTo(target);
    }

    void PartitionTable(Span<byte> target)
    {
        const int first = 0x1BE;
        const byte active = 0x80;
        BinaryPrimitives.WriteUInt32LittleEndian(target[0x1B8..], DiskSignature);
        Span<byte> partition = target[first..];
        partition[0] = active;
        WriteChs(geometry.Hidden, partition[1..]);
        partition[4] = geometry.Bits switch { 12 => 0x01, 16 => 0x06, _ => 0x0C };
        WriteChs(geometry.Total - 1, partition[5..]);
        BinaryPrimitives.WriteInt32LittleEndian(partition[8..], geometry.Hidden);
        BinaryPrimitives.WriteInt32LittleEndian(partition[12..], geometry.VolumeSectors);
        BinaryPrimitives.WriteUInt16LittleEndian(target[510..], Signature);
    }

    void WriteChs(int sector, Span<byte> target)
    {
        int cylinder = sector / (geometry.Heads * geometry.SectorsPerTrack);
        target[0] = (byte)(sector / geometry.SectorsPerTrack % geometry.Heads);
        target[1] = (byte)(sector % geometry.SectorsPerTrack + 1 | cylinder >> 8 << 6);
        target[2] = (byte)cylinder;
    }

    void Boot(Span<byte> target)
    {
        bool isWide = geometry.Bits == 32;
        ReadOnlySpan<byte> jump = [0xEB, 0x3E, 0x90];
        jump.CopyTo(target);
        "MSWIN4.1"u8.CopyTo(target[3..]);
        BinaryPrimitives.WriteUInt16LittleEndian(target[11..], FatGeometry.Sector);
        target[13] = (byte)geometry.SectorsPerCluster;
        BinaryPrimitives.WriteUInt16LittleEndian(target[14..], (ushort)geometry.ReservedSectors);
        target[16] = 2;                                            // tables
        BinaryPrimitives.WriteUInt16LittleEndian(target[17..], (ushort)geometry.RootEntries);
        bool isSmall = geometry.VolumeSectors <= ushort.MaxValue && !isWide;
        if (isSmall) BinaryPrimitives.WriteUInt16LittleEndian(target[19..], (ushort)geometry.VolumeSectors);
        else BinaryPrimitives.WriteInt32LittleEndian(target[32..], geometry.VolumeSectors);
        target[21] = _media;
        if (!isWide) BinaryPrimitives.WriteUInt16LittleEndian(target[22..], (ushort)geometry.FatSectors);
        BinaryPrimitives.WriteUInt16LittleEndian(target[24..], (ushort)geometry.SectorsPerTrack);
        BinaryPrimitives.WriteUInt16LittleEndian(target[26..], (ushort)geometry.Heads);
        BinaryPrimitives.WriteInt32LittleEndian(target[28..], geometry.Hidden);
        if (isWide)
        {
            BinaryPrimitives.WriteInt32LittleEndian(target[36..], geometry.FatSectors);
            BinaryPrimitives.WriteUInt32LittleEndian(target[44..], 2); // cluster of the root directory
            BinaryPrimitives.WriteUInt16LittleEndian(target[48..], InformationSector);
            BinaryPrimitives.WriteUInt16LittleEndian(target[50..], BackupSector);
        }
        Span<byte> rest = target[(isWide ? 64 : 36)..];
        const byte extended = 0x29;
        rest[0] = geometry.Hidden == 0 ? (byte)0 : (byte)0x80;
        rest[2] = extended;
        BinaryPrimitives.WriteUInt32LittleEndian(rest[3..], SerialNumber);
        Encoding.ASCII.GetBytes(label.PadRight(FatEntry.ShortLength)).CopyTo(rest[7..]);
        Encoding.ASCII.GetBytes($"FAT{geometry.Bits}   ").CopyTo(rest[18..]);
        BinaryPrimitives.WriteUInt16LittleEndian(target[510..], Signature);
    }

    /// <summary>FSInfo: what is free.</summary>
    void Information(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(target, 0x41615252);
        BinaryPrimitives.WriteUInt32LittleEndian(target[484..], 0x61417272);
        BinaryPrimitives.WriteUInt32LittleEndian(target[488..], (uint)geometry.Clusters + 2 - tree.Next);
        BinaryPrimitives.WriteUInt32LittleEndian(target[492..], tree.Next);
        BinaryPrimitives.WriteUInt32LittleEndian(target[508..], 0xAA550000);
    }

    /// <summary>A sector of the table. Entries of 12 bits lie across its ends.</summary>
    void Table(int sector, Span<byte> target)
    {
        int firstBit = sector * FatGeometry.Sector * 8, bits = geometry.Bits;
        for (int entry = firstBit / bits; entry * bits < firstBit + FatGeometry.Sector * 8; entry++)
        {
            uint value = Value((uint)entry);
            for (int nibble = 0; nibble < bits / 4; nibble++)
            {
                int bit = entry * bits + 4 * nibble - firstBit;
                if (bit < 0 || bit >= FatGeometry.Sector * 8) continue;
                target[bit / 8] |= (byte)((value >> (4 * nibble) & 0xF) << (bit & 4));
            }
        }
    }

    uint Value(uint cluster)
    {
        if (cluster == 0) return geometry.EndOfChain & ~0xFFu | _media;
        if (cluster == 1) return geometry.EndOfChain;
        if (tree.Find(cluster) is not { } run) return 0;
        return cluster == run.First + run.Count - 1 ? geometry.EndOfChain : cluster + 1;
    }
}
