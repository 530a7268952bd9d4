using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Luks;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Options of a new image, with the names and defaults of <c>qemu-img create -f qcow2 -o</c>.</summary>
public sealed record Qcow2CreateOptions
{
    public int ClusterSize { get; init; } = 64 << 10;

    /// <summary>compat=1.1 is 3, compat=0.10 is 2.</summary>
    public int Version { get; init; } = 3;
    public int RefcountBits { get; init; } = 16;
    public bool LazyRefcounts { get; init; }
    public bool ExtendedL2 { get; init; }


    /// <summary>0 zlib, 1 zstd.</summary>
    public byte CompressionType { get; init; }
    public Preallocation Preallocation { get; init; }
    /// <summary>Name of the external data file, and the node of it.</summary>
    public (string Name, BlockDriver Node)? DataFile { get; init; }
    public bool IsDataRaw { get; init; }

    /// <summary>Header, key material and where it goes.</summary>
    internal (byte[] Header, byte[] Material, LuksHeader Facts, byte[] Key)? Encryption { get; init; }

    /// <summary>Bytes of the LUKS header, 0 without.</summary>
    public long CryptoLength { get; init; }
    public string? BackingFile { get; init; }
    public string? BackingFormat { get; init; }
}

/// <summary>Makes qcow2 images.</summary>
public static class Qcow2Image
{
    const int SectorSize = 512;

    /// <summary>Makes the file, or replaces its contents. The backing file is not looked at.</summary>
    public static async Task CreateAsync(string path, long size, Qcow2CreateOptions options)
    {
        Check(size, options);
        await using FileDriver file = HostImage.Create(path, new NodeOptions());
        await FormatAsync(file, path, size, options).ConfigureAwait(false);
    }

    /// <summary>Writes an empty image onto a node, which stays open.</summary>
    public static async Task FormatAsync(BlockDriver file, string name, long size, Qcow2CreateOptions options)
    {
        Check(size, options);
        size = (size + SectorSize - 1) / SectorSize * SectorSize;
        (file as IGrowable)?.AllowGrowth();
        int bits = BitOperations.Log2((uint)options.ClusterSize),
            order = BitOperations.Log2((uint)options.RefcountBits);
        int l2Bits = bits - (options.ExtendedL2 ? 4 : 3);
        long l1Entries = Math.Max(1, (size + (1L << (bits + l2Bits)) - 1) >> (bits + l2Bits));
        if (l1Entries * 8 > Qcow2Header.MaxL1Bytes)
            throw new ConfigurationException("The image size is too large for file format 'qcow2' (try using a " +
                "larger cluster size)");
        long l1Clusters = (l1Entries * 8 + options.ClusterSize - 1) >> bits, perBlock = 1L << (bits + 3 - order),
            blocks = 1, tableClusters = 1, cryptoClusters = (options.CryptoLength + options.ClusterSize - 1) >> bits;
        while (true)
        {
            long needed = (1 + tableClusters + blocks + l1Clusters + cryptoClusters + perBlock - 1) / perBlock;
            long table = (needed * 8 + options.ClusterSize - 1) >> bits;
            if (needed == blocks && table == tableClusters) break;
            (blocks, tableClusters) = (needed, table);
        }
        long used = 1 + tableClusters + blocks + l1Clusters + cryptoClusters,
            cryptoAt = (used - cryptoClusters) << bits;

        byte[] first = FirstCluster(options, new Qcow2Header
        {
            Version = (uint)options.Version,
            ClusterBits = bits,
            Size = size,
            L1Entries = (int)l1Entries,
            L1Offset = (1 + tableClusters + blocks) << bits,
            RefcountTableOffset = 1L << bits,
            RefcountTableClusters = (int)tableClusters,
            Incompatible = (options.ExtendedL2 ? Qcow2Features.ExtendedL2 : 0)
                | (options.CompressionType != 0 ? Qcow2Features.CompressionType : 0)
                | (options.DataFile != null ? Qcow2Features.ExternalData : 0),
            Autoclear = options.IsDataRaw ? Qcow2Features.AutoclearRawData : 0,
            Encryption = options.Encryption != null ? 2u : 0,
            CompressionType = options.CompressionType,
            Compatible = options.LazyRefcounts ? Qcow2Features.LazyRefcounts : 0,
            RefcountOrder = order,
            HeaderLength = options.Version == 2 ? Qcow2Header.Version2Length : Qcow2Header.LongestLength,
        }, cryptoAt);

        var tables = new byte[(used - 1) << bits];                 // refcount table, blocks, L1
        for (long b = 0; b < blocks; b++)
            BinaryPrimitives.WriteInt64BigEndian(tables.AsSpan((int)b * 8), (1 + tableClusters + b) << bits);
        Span<byte> counts = tables.AsSpan((int)(tableClusters << bits), (int)(blocks << bits));
        for (long i = 0; i < used; i++) SetOne(counts, i, order);
        if (options.Encryption is { } crypto)
        {
            crypto.Header.CopyTo(tables, cryptoAt - (1L << bits));
            crypto.Material.CopyTo(tables, cryptoAt - (1L << bits) + crypto.Facts.KeySlots[0].Offset);
        }
        if (options.DataFile is { } data) await data.Node.ResizeAsync(size).ConfigureAwait(false);
        await file.WriteAsync(1L << bits, new ScatterList(tables)).ConfigureAwait(false);
        await file.FlushAsync().ConfigureAwait(false);
        await file.WriteAsync(0, new ScatterList(first)).ConfigureAwait(false); // last: now it is an image
        await file.FlushAsync().ConfigureAwait(false);
        if (options.Preallocation != Preallocation.Off) await PreallocateAsync(file, name, options)
            .ConfigureAwait(false);
    }

    static async Task PreallocateAsync(BlockDriver file, string name, Qcow2CreateOptions options)
    {
        Preallocation mode = options.Preallocation;
        var image = new Qcow2Driver(file, name, new NodeOptions(), static _ => null, _ => options.DataFile?.Node);
        image.Preallocate();
        await image.FlushAsync().ConfigureAwait(false);
        foreach (BlockEdge edge in image.Children) edge.Detach();  // the node stays open
        if (mode == Preallocation.Metadata) return;
        if (options.DataFile is { } data) file = data.Node;
        await FillHolesAsync(file, mode).ConfigureAwait(false);
    }

    /// <summary>Takes room for all that has none, or writes zeros there.</summary>
    internal static async Task FillHolesAsync(BlockDriver file, Preallocation mode)
    {
        for (long offset = 0, end = file.Length; offset < end;)
        {
            BlockStatus status = await file.StatusAsync(offset, Math.Min(end - offset, MaxPiece)).ConfigureAwait(false);
            if (status.IsZero) await (mode == Preallocation.Full
                ? file.WriteAsync(offset, ScatterLists.Zeroes(status.Length))
                : file.WriteZeroesAsync(offset, status.Length, mayUnmap: false)).ConfigureAwait(false);
            offset += status.Length;
        }
    }

    const long MaxPiece = 16 << 20;

    static byte[] FirstCluster(Qcow2CreateOptions options, Qcow2Header header, long cryptoAt)
    {
        var extensions = new Qcow2Extensions();
        if (options.Version >= 3) extensions.Set(Qcow2Extension.FeatureNames, Qcow2Extensions.FeatureNameTable());
        if (options.BackingFormat != null)
            extensions.Set(Qcow2Extension.BackingFormat, Encoding.UTF8.GetBytes(options.BackingFormat));
        if (options.DataFile is { } data)
            extensions.Set(Qcow2Extension.DataFile, Encoding.UTF8.GetBytes(data.Name));
        if (options.Encryption != null)
        {
            var place = new byte[16];
            BinaryPrimitives.WriteInt64BigEndian(place, cryptoAt);
            BinaryPrimitives.WriteInt64BigEndian(place.AsSpan(8), options.CryptoLength);
            extensions.Set(Qcow2Extension.CryptoHeader, place);
        }
        return Qcow2FirstCluster.Make(header, extensions, options.BackingFile);
    }

    /// <summary>A refcount of 1: its last byte is the significant one.</summary>
    static void SetOne(Span<byte> counts, long index, int order)
    {
        if (order < 3) counts[(int)(index << order >> 3)] |= (byte)(1 << (int)((index << order) & 7));
        else counts[(int)(((index + 1) << (order - 3)) - 1)] = 1;
    }

    static void Check(long size, Qcow2CreateOptions options)
    {
        void Require(bool condition, string what)
        {
            if (!condition) throw new ConfigurationException(what);
        }
        Require(BitOperations.IsPow2(options.ClusterSize) && options.ClusterSize is >= 512 and <= 2 << 20,
            "Cluster size must be a power of two between 512 and 2048k");
        Require(!options.ExtendedL2 || options.ClusterSize >= 16 << 10,
            "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
        Require(size is >= 0 and <= long.MaxValue - SectorSize, $"An image cannot have {size} bytes");
        Require(options.Version == 3 || !options.ExtendedL2,
            "Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or " +
                "greater)");
        Require(options.Preallocation == Preallocation.Off || options.BackingFile == null || options.ExtendedL2,
            "Backing file and preallocation can only be used at the same time if extended_l2 is on");
        Require(options.Version == 3 || !options.LazyRefcounts,
            "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)");
        Require(BitOperations.IsPow2(options.RefcountBits) && options.RefcountBits is >= 1 and <= 64,
            "Refcount width must be a power of two and may not exceed 64 bits");
        Require(options.Version == 3 || options.RefcountBits == 16,
            "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or " +
                "greater)");
        Require(options.Version == 3 || options.CompressionType == 0,
            "Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or " +
                "greater)");
    }
}
