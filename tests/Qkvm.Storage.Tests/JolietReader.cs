using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Tests;

/// <summary>Reads the root directory of a CD by its Joliet tree, and holds the plain tree beside it.</summary>
static class JolietReader
{
    const int Sector = 2048, FirstDescriptor = 16;

    public static Dictionary<string, byte[]> Files(byte[] image)
    {
        Assert.Equal(image.Length / Sector, Word(image, FirstDescriptor * Sector + 80));
        Assert.Equal("cidata", Encoding.ASCII.GetString(image, FirstDescriptor * Sector + 40, 32).TrimEnd(' '));
        Assert.Equal("cidata", Encoding.BigEndianUnicode.GetString(image, 17 * Sector + 40, 32).TrimEnd(' '));
        Dictionary<string, byte[]> plain = Root(image, FirstDescriptor, 1, Encoding.ASCII),
            joliet = Root(image, FirstDescriptor + 1, 2, Encoding.BigEndianUnicode);
        Assert.Equal(joliet.Keys.Order().Select(name => name.ToUpperInvariant().Replace('-', '_') + ".;1"),
            plain.Keys.Order());
        foreach ((string name, byte[] data) in joliet)
            Assert.Equal(data, plain[name.ToUpperInvariant().Replace('-', '_') + ".;1"]);
        return joliet;
    }

    static Dictionary<string, byte[]> Root(byte[] image, int descriptor, byte type, Encoding encoding)
    {
        int at = descriptor * Sector;
        Assert.Equal([type, .. "CD001"u8, 1], image[at..(at + 7)]);
        if (type == 2) Assert.Equal("%/E"u8.ToArray(), image[(at + 88)..(at + 91)]);
        int root = Word(image, at + 156 + 2), length = Word(image, at + 156 + 10);
        int table = Word(image, at + 140, isBoth: false) * Sector;
        Assert.Equal(root, Word(image, table + 2, isBoth: false));
        var files = new Dictionary<string, byte[]>();
        for (int entry = root * Sector; entry < root * Sector + length && image[entry] != 0; entry += image[entry])
        {
            string name = encoding.GetString(image, entry + 33, image[entry + 32]);
            int place = Word(image, entry + 2) * Sector, size = Word(image, entry + 10);
            if ((image[entry + 25] & 2) == 0) files[name] = image[place..(place + size)];
            else Assert.Equal(root * Sector, place);
        }
        return files;
    }

    static int Word(byte[] image, int at, bool isBoth = true)
    {
        int value = BinaryPrimitives.ReadInt32LittleEndian(image.AsSpan(at));
        if (isBoth) Assert.Equal(value, BinaryPrimitives.ReadInt32BigEndian(image.AsSpan(at + 4)));
        return value;
    }
}
