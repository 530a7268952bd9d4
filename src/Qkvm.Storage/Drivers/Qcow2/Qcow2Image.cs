using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Host;
using Qkvm.Storage.Drivers.File;

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

    /// <summary>preallocation=metadata.</summary>
    public bool PreallocateMetadata { get; init; }
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
        Check(path, size, options);
        HostFile host = HostFile.Open(path, Libc.ORdWr | Libc.OCreat, out int errno)
                        ?? throw new ConfigurationException($"Could not create '{path}': {Libc.Message(errno)}");
        var locks = new FileLocks(host, required: false);
        await using var file = new FileDriver(host, new NodeOptions(), locking: locks);
        var edge = new BlockEdge(file, new ImageMaker(path), "root", BlockUse.Format(readOnly: false));
        if (!host.Status.IsBlockDevice && host.Truncate(0) is < 0 and long error)
            throw new ConfigurationException($"Could not create '{path}': {Libc.Message((int)-error)}");
        edge.Detach();
        await FormatAsync(file, path, size, options).ConfigureAwait(false);
    }

    /// <summary>Writes an empty image onto a node, which stays open.</summary>
    public static async Task FormatAsync(BlockDriver file, string name, long size, Qcow2CreateOptions options)
    {
        Check(name, size, options);
        size = (size + SectorSize - 1) / SectorSize * SectorSize;
        (file as IGrowable)?.AllowGrowth();
        int bits = BitOperations.Log2((uint)options.ClusterSize),
            order = BitOperations.Log2((uint)options.RefcountBits);
        int l2Bits = bits - (options.ExtendedL2 ? 4 : 3);
        long l1Entries = Math.Max(1, (size + (1L << (bits + l2Bits)) - 1) >> (bits + l2Bits));
        if (l1Entries * 8 > Qcow2Header.MaxL1Bytes)
            throw new ConfigurationException($"Could not create '{name}': {size} bytes are too many for clusters of " +
                $"{options.ClusterSize} bytes; give a larger cluster_size");
        long l1Clusters = (l1Entries * 8 + options.ClusterSize - 1) >> bits, perBlock = 1L << (bits + 3 - order),
            blocks = 1, tableClusters = 1;
        while (true)
        {
            long needed = (1 + tableClusters + blocks + l1Clusters + perBlock - 1) / perBlock;
            long table = (needed * 8 + options.ClusterSize - 1) >> bits;
            if (needed == blocks && table == tableClusters) break;
            (blocks, tableClusters) = (needed, table);
        }
        long used = 1 + tableClusters + blocks + l1Clusters;

        byte[] first = FirstCluster(options, new Qcow2Header
        {
            Version = (uint)options.Version,
            ClusterBits = bits,
            Size = size,
            L1Entries = (int)l1Entries,
            L1Offset = (1 + tableClusters + blocks) << bits,
            RefcountTableOffset = 1L << bits,
            RefcountTableClusters = (int)tableClusters,
            Incompatible = options.ExtendedL2 ? Qcow2Features.ExtendedL2 : 0,
            Compatible = options.LazyRefcounts ? Qcow2Features.LazyRefcounts : 0,
            RefcountOrder = order,
            HeaderLength = options.Version == 2 ? Qcow2Header.Version2Length : Qcow2Header.LongestLength,
        }, name);

        var tables = new byte[(used - 1) << bits];                 // refcount table, blocks, L1
        for (long b = 0; b < blocks; b++)
            BinaryPrimitives.WriteInt64BigEndian(tables.AsSpan((int)b * 8), (1 + tableClusters + b) << bits);
        Span<byte> counts = tables.AsSpan((int)(tableClusters << bits), (int)(blocks << bits));
        for (long i = 0; i < used; i++) SetOne(counts, i, order);
        await file.WriteAsync(1L << bits, new ScatterList(tables)).ConfigureAwait(false);
        await file.FlushAsync().ConfigureAwait(false);
        await file.WriteAsync(0, new ScatterList(first)).ConfigureAwait(false); // last: now it is an image
        await file.FlushAsync().ConfigureAwait(false);
        if (options.PreallocateMetadata) await PreallocateAsync(file, name).ConfigureAwait(false);
    }

    static async Task PreallocateAsync(BlockDriver file, string name)
    {
        var image = new Qcow2Driver(file, name, new NodeOptions(), static _ => null);
        image.Preallocate();
        await image.FlushAsync().ConfigureAwait(false);
        foreach (BlockEdge edge in image.Children) edge.Detach();  // the node stays open
    }

    /// <summary>Who writes a new image.</summary>
    sealed class ImageMaker(string name) : IBlockUser
    {
        public string UserName => $"the making of '{name}'";
        public ValueTask<Action> PauseAsync() => new(static () => { });
    }

    static byte[] FirstCluster(Qcow2CreateOptions options, Qcow2Header header, string name)
    {
        List<Qcow2Extension> extensions = [];
        if (options.BackingFormat != null)
            extensions.Add(new(Qcow2Extension.BackingFormat, Encoding.UTF8.GetBytes(options.BackingFormat)));
        if (options.Version >= 3) extensions.Add(new(Qcow2Extension.FeatureNames, Qcow2Extensions.FeatureNameTable()));
        byte[] backing = Encoding.UTF8.GetBytes(options.BackingFile ?? "");
        if (header.ClusterSize - header.HeaderLength - 8 - backing.Length < extensions.Sum(e => e.PaddedLength))
            extensions.RemoveAll(e => e.Type == Qcow2Extension.FeatureNames); // they are a convenience
        long backingAt = header.HeaderLength + extensions.Sum(e => e.PaddedLength) + 8;
        if (backing.Length > Math.Min(Qcow2Header.MaxBackingName, header.ClusterSize - backingAt))
            throw new ConfigurationException($"Could not create '{name}': the name of the backing file is too long");

        var cluster = new byte[header.ClusterSize];
        header.WriteTo(cluster);
        if (backing.Length > 0)
        {
            BinaryPrimitives.WriteInt64BigEndian(cluster.AsSpan(8), backingAt);
            BinaryPrimitives.WriteInt32BigEndian(cluster.AsSpan(16), backing.Length);
            backing.CopyTo(cluster, backingAt);
        }
        int at = header.HeaderLength;
        foreach (Qcow2Extension extension in extensions)
        {
            extension.WriteTo(cluster.AsSpan(at));
            at += extension.PaddedLength;
        }
        return cluster;
    }

    /// <summary>A refcount of 1: its last byte is the significant one.</summary>
    static void SetOne(Span<byte> counts, long index, int order)
    {
        if (order < 3) counts[(int)(index << order >> 3)] |= (byte)(1 << (int)((index << order) & 7));
        else counts[(int)(((index + 1) << (order - 3)) - 1)] = 1;
    }

    static void Check(string name, long size, Qcow2CreateOptions options)
    {
        void Require(bool condition, string what)
        {
            if (!condition) throw new ConfigurationException($"Could not create '{name}': {what}");
        }
        Require(size >= 0 && size <= long.MaxValue - SectorSize, $"an image cannot have {size} bytes");
        Require(options.Version is 2 or 3, "compat must be 0.10 or 1.1");
        Require(BitOperations.IsPow2(options.ClusterSize) && options.ClusterSize is >= 512 and <= 2 << 20,
            "cluster_size must be a power of two between 512 and 2M");
        Require(BitOperations.IsPow2(options.RefcountBits) && options.RefcountBits is >= 1 and <= 64,
            "refcount_bits must be a power of two of at most 64");
        Require(options.Version == 3 || (options.RefcountBits == 16 && !options.LazyRefcounts && !options.ExtendedL2),
            "refcount_bits, lazy_refcounts and extended_l2 need compat=1.1");
        Require(!options.ExtendedL2 || options.ClusterSize >= 16 << 10, "extended_l2=on needs a cluster_size of at " +
            "least 16k");
        Require(!options.PreallocateMetadata || options.BackingFile == null, "preallocation and a backing file " +
            "cannot be used together");
    }
}
