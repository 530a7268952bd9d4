using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Drivers.CloudInit;

/// <summary>A CD with one directory, whose names are whole in the Joliet tree. Spec: ECMA-119, sections 8 (volume
/// descriptors) and 9 (file and directory descriptors); Joliet Specification, version 1.</summary>
static class IsoSeed
{
    const int Sector = 2048, First = 16;                           // the system area comes before
    const int DescriptorLength = 881, RootRecord = 156;

    // Sectors
    const int Primary = First, Joliet = First + 1, Terminator = First + 2, PathTables = First + 3,
        PrimaryRoot = PathTables + 4, JolietRoot = PrimaryRoot + 1, Data = JolietRoot + 1;

    const int PathTableLength = 10;                                // of the root alone

    public static byte[] Make(IReadOnlyList<SeedFile> files)
    {
        int total = Data + files.Sum(file => Sectors(file.Data.Length));
        var image = new byte[total * Sector];
        Span<byte> At(int sector) => image.AsSpan(sector * Sector);
        WriteDescriptor(At(Primary), isJoliet: false, total);
        WriteDescriptor(At(Joliet), isJoliet: true, total);
        WriteHead(At(Terminator), 255);
        for (int i = 0; i < 4; i++)
            WritePathTable(At(PathTables + i), i < 2 ? PrimaryRoot : JolietRoot, isBigEndian: i % 2 != 0);
        WriteDirectory(At(PrimaryRoot), PrimaryRoot, files, name => Encoding.ASCII.GetBytes(PlainName(name)));
        WriteDirectory(At(JolietRoot), JolietRoot, files, Encoding.BigEndianUnicode.GetBytes);
        int place = Data;
        foreach (SeedFile file in files)
        {
            file.Data.CopyTo(At(place));
            place += Sectors(file.Data.Length);
        }
        return image;
    }

    static int Sectors(int length) => (length + Sector - 1) / Sector;

    /// <summary>Of d-characters, as ECMA-119 has them (7.5): USER_DATA.;1.</summary>
    static string PlainName(string name) => $"{name.ToUpperInvariant().Replace('-', '_')}.;1";

    static void WriteHead(Span<byte> target, byte type)
    {
        target[0] = type;
        "CD001"u8.CopyTo(target[1..]);
        target[6] = 1;
    }

    static void WriteDescriptor(Span<byte> target, bool isJoliet, int total)
    {
        WriteHead(target, isJoliet ? (byte)2 : (byte)1);
        foreach ((int at, int length) in (ReadOnlySpan<(int, int)>)[(8, 64), (190, 623)])
            for (int i = 0; i < length; i++) target[at + i] = isJoliet && i % 2 == 0 ? (byte)0 : (byte)' ';
        (isJoliet ? Encoding.BigEndianUnicode : Encoding.ASCII).GetBytes(Seed.Label).CopyTo(target[40..]);
        Both(target[80..], total);
        if (isJoliet) "%/E"u8.CopyTo(target[88..]);                // UCS-2, level 3
        foreach (int at in (ReadOnlySpan<int>)[120, 124]) Both16(target[at..], 1);
        Both16(target[128..], Sector);
        Both(target[132..], PathTableLength);
        int table = PathTables + (isJoliet ? 2 : 0);
        BinaryPrimitives.WriteInt32LittleEndian(target[140..], table);
        BinaryPrimitives.WriteInt32BigEndian(target[148..], table + 1);
        WriteRecord(target[RootRecord..], isJoliet ? JolietRoot : PrimaryRoot, Sector, isDirectory: true, [0]);
        for (int at = 813; at < DescriptorLength; at += 17)        // four times, none of them given
        {
            target.Slice(at, 16).Fill((byte)'0');
            target[at + 16] = 0;
        }
        target[DescriptorLength] = 1;
    }

    static void WritePathTable(Span<byte> target, int root, bool isBigEndian)
    {
        target[0] = 1;                                             // the length of the root's name
        if (isBigEndian) BinaryPrimitives.WriteInt32BigEndian(target[2..], root);
        else BinaryPrimitives.WriteInt32LittleEndian(target[2..], root);
        target[isBigEndian ? 7 : 6] = 1;                           // its parent: itself
    }

    static void WriteDirectory(Span<byte> target, int self, IReadOnlyList<SeedFile> files, Func<string, byte[]> encode)
    {
        int at = WriteRecord(target, self, Sector, isDirectory: true, [0]);
        at += WriteRecord(target[at..], self, Sector, isDirectory: true, [1]);
        int place = Data;
        var places = new Dictionary<string, int>();
        foreach (SeedFile file in files)
        {
            places[file.Name] = place;
            place += Sectors(file.Data.Length);
        }
        foreach (SeedFile file in files.OrderBy(file => file.Name, StringComparer.Ordinal))
            at += WriteRecord(target[at..], places[file.Name], file.Data.Length, isDirectory: false, encode(file.Name));
    }

    /// <summary>9.1.</summary>
    /// <returns>Bytes.</returns>
    static int WriteRecord(Span<byte> target, int place, int length, bool isDirectory, ReadOnlySpan<byte> name)
    {
        int size = 33 + name.Length + (name.Length % 2 == 0 ? 1 : 0);
        target[0] = (byte)size;
        Both(target[2..], place);
        Both(target[10..], length);
        ReadOnlySpan<byte> date = [100, 1, 1, 0, 0, 0, 0];         // 2000: the same files make the same disk
        date.CopyTo(target[18..]);
        target[25] = isDirectory ? (byte)2 : (byte)0;
        Both16(target[28..], 1);
        target[32] = (byte)name.Length;
        name.CopyTo(target[33..]);
        return size;
    }

    /// <summary>In both byte orders, 7.3.3.</summary>
    static void Both(Span<byte> target, int value)
    {
        BinaryPrimitives.WriteInt32LittleEndian(target, value);
        BinaryPrimitives.WriteInt32BigEndian(target[4..], value);
    }

    static void Both16(Span<byte> target, int value)
    {
        BinaryPrimitives.WriteInt16LittleEndian(target, (short)value);
        BinaryPrimitives.WriteInt16BigEndian(target[2..], (short)value);
    }
}
