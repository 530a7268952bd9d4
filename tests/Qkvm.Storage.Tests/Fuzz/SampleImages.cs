using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using ICSharpCode.SharpZipLib.BZip2;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Bochs;
using Qkvm.Storage.Drivers.Cloop;
using Qkvm.Storage.Drivers.Dmg;
using Qkvm.Storage.Drivers.Parallels;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Drivers.Qed;
using Qkvm.Storage.Drivers.Vdi;
using Qkvm.Storage.Drivers.Vhdx;
using Qkvm.Storage.Drivers.Vmdk;
using Qkvm.Storage.Drivers.Vpc;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests.Fuzz;

/// <summary>Small sound images of every format, in memory.</summary>
static class SampleImages
{
    public const int Size = 256 << 10;

    public static readonly string[] Writable = ["qcow2", "vdi", "vpc", "vmdk", "vhdx"];
    public static readonly string[] Formats = [.. Writable, "qed", "parallels", "bochs", "cloop", "dmg", DmgBzip2];

    const string DmgBzip2 = "dmg-bzip2";

    /// <summary>Zeros with a few pieces of noise.</summary>
    public static byte[] Contents()
    {
        var data = new byte[Size];
        for (int at = 0; at < Size; at += 80 << 10) BlockDriverExtensions.Pattern(at, 6 << 10).CopyTo(data, at);
        return data;
    }

    public static async Task<byte[]> Make(string format, string options = "")
    {
        switch (format)
        {
            case "qed": return Qed();
            case "parallels": return Parallels();
            case "bochs": return Bochs();
            case "cloop": return Cloop();
            case "dmg": return Dmg(0x8000_0005, Deflate);
            case DmgBzip2: return Dmg(0x8000_0006, Bzip2);
        }
        var file = new MemoryFile([]) { KeepsLog = false };
        BlockDriverModel model = Model(format);
        var properties = new Properties(model.Creation!, Options.Parse($"size={Size},{options}".TrimEnd(','), "-o"));
        await model.Creation!.CreateAsync(new NewImage(null!, "memory", file, Size, properties));
        await using (BlockDriver image = Open(format, file, readOnly: false))
        {
            byte[] data = Contents();
            for (int at = 0; at < Size; at += 80 << 10) await image.Write(at, data[at..(at + (6 << 10))]);
        }
        return file.Contents;
    }

    static BlockDriverModel Model(string format) => format switch
    {
        "vdi" => VdiDriver.Model, "vpc" => VpcDriver.Model, "vmdk" => VmdkDriver.Model, "vhdx" => VhdxDriver.Model,
        _ => Qcow2Driver.Model,
    };

    /// <summary>As if nobody else had it open.</summary>
    public static BlockDriver Open(string format, MemoryFile file, bool readOnly)
    {
        foreach (BlockEdge before in file.Edges.ToArray()) before.Detach();
        var options = new NodeOptions { Discard = true, ReadOnly = readOnly };
        return format switch
        {
            "vdi" => VdiDriver.Open(file, options),
            "vpc" => VpcDriver.Open(file, options),
            "vmdk" => VmdkDriver.Open(file, options, static (_, name) =>
                throw new ConfigurationException($"no extent {name}"), static _ => null),
            "vhdx" => VhdxDriver.Open(file, options),
            "qed" => QedDriver.Open(file, options with { ReadOnly = true }, static (_, _) => null),
            "parallels" => ParallelsDriver.Open(file, options with { ReadOnly = true }),
            "bochs" => BochsDriver.Open(file, options with { ReadOnly = true }),
            "cloop" => CloopDriver.Open(file, options with { ReadOnly = true }),
            "dmg" or DmgBzip2 => DmgDriver.Open(file, options with { ReadOnly = true }),
            _ => new Qcow2Driver(file, "memory", options, static _ => null),
        };
    }

    static byte[] Qed()
    {
        const int cluster = 4096, table = 2 * cluster;
        byte[] data = Contents();
        var image = new byte[cluster + 2 * table + Size];          // header, L1, one L2, data
        "QED\0"u8.CopyTo(image);
        Little(image, 4, cluster);
        Little(image, 8, table / cluster);
        Little(image, 12, 1);
        Little(image, 40, cluster);
        Little(image, 48, Size);
        Little(image, cluster, cluster + table);
        for (int i = 0; i < Size / cluster; i++)
            Little(image, cluster + table + i * 8, i % 7 == 6 ? 0 : cluster + 2 * table + i * cluster);
        data.CopyTo(image, cluster + 2 * table);
        return image;
    }

    static byte[] Parallels()
    {
        const int cluster = 4096;
        var image = new byte[cluster + Size];
        "WithouFreSpacExt"u8.CopyTo(image);
        Little(image, 16, 2);
        Little(image, 28, cluster / 512);
        Little(image, 32, Size / cluster);
        Little(image, 36, Size / 512);
        for (int i = 0; i < Size / cluster; i++) Little(image, 64 + i * 4, i + 1, 4);
        Contents().CopyTo(image, cluster);
        return image;
    }

    static byte[] Bochs()
    {
        const int extent = 32 << 10, bitmap = 512, header = 512, entries = Size / extent, data = header + entries * 4;
        var image = new byte[data + entries * (bitmap + extent)];
        "Bochs Virtual HD Image"u8.CopyTo(image);
        "Redolog"u8.CopyTo(image.AsSpan(32));
        "Growing"u8.CopyTo(image.AsSpan(48));
        Little(image, 64, 0x20000, 4);
        Little(image, 68, header, 4);
        Little(image, 72, entries, 4);
        Little(image, 76, extent / 512 / 8, 4);
        Little(image, 80, extent, 4);
        Little(image, 88, Size);
        byte[] contents = Contents();
        for (int i = 0; i < entries; i++)
        {
            Little(image, header + i * 4, i, 4);
            int at = data + i * (bitmap + extent);
            image.AsSpan(at, extent / 512 / 8).Fill(0xFF);
            contents.AsSpan(i * extent, extent).CopyTo(image.AsSpan(at + bitmap));
        }
        return image;
    }

    static byte[] Cloop()
    {
        const int block = 64 << 10, blocks = Size / block;
        byte[] contents = Contents();
        var head = new byte[136 + (blocks + 1) * 8];
        CloopDriver.Magic.CopyTo(head);
        BinaryPrimitives.WriteInt32BigEndian(head.AsSpan(128), block);
        BinaryPrimitives.WriteInt32BigEndian(head.AsSpan(132), blocks);
        var all = new List<byte>(head);
        for (int i = 0; i <= blocks; i++)
        {
            BinaryPrimitives.WriteInt64BigEndian(head.AsSpan(136 + i * 8), all.Count);
            if (i < blocks) all.AddRange(Deflate(contents[(i * block)..((i + 1) * block)]));
        }
        byte[] image = [.. all];
        head.CopyTo(image, 0);
        return image;
    }

    /// <summary>Chunks packed, plain and absent, named in a property list.</summary>
    static byte[] Dmg(uint packing, Func<byte[], byte[]> pack)
    {
        byte[] contents = Contents();
        const int piece = 32 << 10, pieces = Size / piece;
        var block = new byte[204 + (pieces + 1) * 40];
        "mish"u8.CopyTo(block);
        BinaryPrimitives.WriteInt32BigEndian(block.AsSpan(200), pieces + 1);
        var image = new List<byte>();
        for (int i = 0; i <= pieces; i++)
        {
            Span<byte> entry = block.AsSpan(204 + i * 40);
            ReadOnlySpan<byte> data = i < pieces ? contents.AsSpan(i * piece, piece) : [];
            uint type = i == pieces ? 0xFFFF_FFFF : !data.ContainsAnyExcept((byte)0) ? 2u
                : i % 3 == 0 ? 1 : packing;
            byte[] stored = type == 1 ? data.ToArray() : type == packing ? pack(data.ToArray()) : [];
            BinaryPrimitives.WriteUInt32BigEndian(entry, type);
            BinaryPrimitives.WriteInt64BigEndian(entry[8..], i * piece / 512);
            BinaryPrimitives.WriteInt64BigEndian(entry[16..], data.Length / 512);
            BinaryPrimitives.WriteInt64BigEndian(entry[24..], image.Count);
            BinaryPrimitives.WriteInt64BigEndian(entry[32..], stored.Length);
            image.AddRange(stored);
        }
        int at = image.Count;
        byte[] list = Encoding.ASCII.GetBytes("<plist><dict><key>blkx</key><array><dict><data>\n"
            + $"{Convert.ToBase64String(block)}\n</data></dict></array></dict></plist>");
        image.AddRange(list);
        var trailer = new byte[512];
        "koly"u8.CopyTo(trailer);
        BinaryPrimitives.WriteInt32BigEndian(trailer.AsSpan(4), 4);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(0xD8), at);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(0xE0), list.Length);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(0x1EC), Size / 512);
        return [.. image, .. trailer];
    }

    static byte[] Deflate(byte[] data)
    {
        using var packed = new MemoryStream();
        using (var stream = new ZLibStream(packed, CompressionLevel.Optimal, leaveOpen: true)) stream.Write(data);
        return packed.ToArray();
    }

    static byte[] Bzip2(byte[] data)
    {
        using var packed = new MemoryStream();
        using (var stream = new BZip2OutputStream(packed) { IsStreamOwner = false }) stream.Write(data);
        return packed.ToArray();
    }

    static void Little(byte[] image, int at, long value, int width = 8)
    {
        for (int i = 0; i < width; i++) image[at + i] = (byte)(value >> 8 * i);
    }
}
