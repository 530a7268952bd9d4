using System.Buffers.Binary;

namespace Qkvm.Storage.Drivers.Vvfat;

/// <summary>Entries of directories, 32 bytes each. Spec: FAT overview, "FAT Directory Structure" and "FAT Long
/// Directory Entries".</summary>
static class FatEntry
{
    public const int Size = 32, ShortLength = 11;
    public const byte VolumeLabel = 0x08, Directory = 0x10, Archive = 0x20, LongName = 0x0F;

    const byte LastLong = 0x40;
    const int LongCharacters = 13, MaxLong = 255;

    /// <param name="name">11 bytes, padded with spaces.</param>
    public static byte[] Short(ReadOnlySpan<byte> name, byte attributes, DateTime changed, uint cluster, uint length)
    {
        var entry = new byte[Size];
        name.CopyTo(entry);
        entry[11] = attributes;
        if (changed.Year is < 1980 or > 2107) changed = new DateTime(1980, 1, 1);
        var time = (ushort)(changed.Hour << 11 | changed.Minute << 5 | changed.Second / 2);
        var date = (ushort)((changed.Year - 1980) << 9 | changed.Month << 5 | changed.Day);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(14), time);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(16), date);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(18), date);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(20), (ushort)(cluster >> 16));
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(22), time);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(24), date);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(26), (ushort)cluster);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(28), length);
        return entry;
    }

    /// <summary>What stands before a short entry: the name in pieces of 13 characters, the last piece first.</summary>
    public static byte[] Long(string name, ReadOnlySpan<byte> shortName)
    {
        if (name.Length > MaxLong) name = name[..MaxLong];
        int count = (name.Length + LongCharacters - 1) / LongCharacters;
        var entries = new byte[count * Size];
        byte sum = Checksum(shortName);
        for (int piece = 0; piece < count; piece++)
        {
            Span<byte> entry = entries.AsSpan((count - 1 - piece) * Size, Size);
            entry[0] = (byte)(piece + 1 | (piece == count - 1 ? LastLong : 0));
            entry[11] = LongName;
            entry[13] = sum;
            for (int i = 0; i < LongCharacters; i++)
            {
                int at = piece * LongCharacters + i;
                ushort character = at < name.Length ? name[at] : at == name.Length ? (ushort)0 : (ushort)0xFFFF;
                int place = i < 5 ? 1 + 2 * i : i < 11 ? 14 + 2 * (i - 5) : 28 + 2 * (i - 11);
                BinaryPrimitives.WriteUInt16LittleEndian(entry[place..], character);
            }
        }
        return entries;
    }

    static byte Checksum(ReadOnlySpan<byte> shortName)
    {
        byte sum = 0;
        foreach (byte one in shortName) sum = (byte)((sum << 7 | sum >> 1) + one);
        return sum;
    }
}
