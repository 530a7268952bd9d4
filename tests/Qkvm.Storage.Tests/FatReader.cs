using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Tests;

/// <summary>Reads what the specification says, and nothing that the driver says of itself.</summary>
sealed class FatReader(BlockDriver disk, bool isFloppy)
{
    readonly byte[] _boot = disk.Read(isFloppy ? 0 : 63 * 512, 512).Result;

    int Field(int at, int bytes) => bytes == 2 ? BinaryPrimitives.ReadUInt16LittleEndian(_boot.AsSpan(at))
        : BinaryPrimitives.ReadInt32LittleEndian(_boot.AsSpan(at));

    int Reserved => Field(14, 2);
    int RootEntries => Field(17, 2);
    int Total => Field(19, 2) != 0 ? Field(19, 2) : Field(32, 4);
    int FatSectors => Field(22, 2) != 0 ? Field(22, 2) : Field(36, 4);
    int Hidden => Field(28, 4);
    int DataStart => Reserved + 2 * FatSectors + RootEntries / 16;
    int Clusters => (Total - DataStart) / _boot[13];

    /// <summary>The number of clusters alone decides.</summary>
    public int Bits => Clusters < 4085 ? 12 : Clusters < 65_525 ? 16 : 32;

    public async Task<Dictionary<string, byte[]>> Files()
    {
        Assert.Equal(0xAA55, Field(510, 2));
        var files = new Dictionary<string, byte[]>();
        byte[] root = RootEntries == 0 ? await Chain(Field(44, 4))
            : await disk.Read((Hidden + Reserved + 2L * FatSectors) * 512, RootEntries * 32);
        await Walk(root, "", files);
        byte[] one = await Table(0), two = await Table(1);
        Assert.Equal(one, two);
        return files;
    }

    Task<byte[]> Table(int copy) =>
        disk.Read((Hidden + Reserved + (long)copy * FatSectors) * 512, FatSectors * 512);

    async Task<byte[]> Chain(int cluster)
    {
        byte[] table = await Table(0);
        var data = new List<byte>();
        int end = Bits switch { 12 => 0xFF8, 16 => 0xFFF8, _ => 0x0FFFFFF8 };
        for (int steps = 0; cluster < end; steps++)
        {
            Assert.InRange(cluster, 2, Clusters + 1);
            Assert.True(steps <= Clusters);
            data.AddRange(await disk.Read((Hidden + DataStart + (cluster - 2L) * _boot[13]) * 512,
                _boot[13] * 512));
            cluster = Bits switch
            {
                12 => BinaryPrimitives.ReadUInt16LittleEndian(table.AsSpan(cluster * 3 / 2))
                    >> (cluster % 2 * 4) & 0xFFF,
                16 => BinaryPrimitives.ReadUInt16LittleEndian(table.AsSpan(cluster * 2)),
                _ => BinaryPrimitives.ReadInt32LittleEndian(table.AsSpan(cluster * 4)) & 0x0FFFFFFF,
            };
        }
        return [.. data];
    }

    async Task Walk(byte[] directory, string path, Dictionary<string, byte[]> files)
    {
        string longName = "";
        var shortNames = new HashSet<string>();
        for (int at = 0; at < directory.Length && directory[at] != 0; at += 32)
        {
            byte[] entry = directory[at..(at + 32)];
            if (entry[11] == 0x0F)
            {
                byte[] piece = [.. entry[1..11], .. entry[14..26], .. entry[28..32]];
                longName = Encoding.Unicode.GetString(piece).Split('\0')[0].TrimEnd('\uFFFF') + longName;
                continue;
            }
            string shortName = Encoding.ASCII.GetString(entry, 0, 11);
            Assert.True(shortNames.Add(shortName));
            string name = longName.Length > 0 ? longName
                : $"{shortName[..8].TrimEnd()}.{shortName[8..].TrimEnd()}".TrimEnd('.');
            longName = "";
            if ((entry[11] & 8) != 0 || entry[0] == '.') continue;
            int cluster = BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(20)) << 16
                | BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(26));
            int length = BinaryPrimitives.ReadInt32LittleEndian(entry.AsSpan(28));
            if ((entry[11] & 0x10) != 0) await Walk(await Chain(cluster), $"{path}{name}/", files);
            else files[path + name] = length == 0 ? [] : (await Chain(cluster))[..length];
        }
    }
}
