using System.Buffers.Binary;
using System.IO.Compression;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Drivers.Vmdk;

/// <summary>Sectors of a disk that one file holds.</summary>
/// <param name="start">First byte of the disk; <paramref name="length"/> bytes of it.</param>
/// <param name="file">Null: all zeros, or not opened.</param>
abstract class VmdkExtent(BlockDriver? file, string name, string type, long start, long length)
{
    public BlockDriver? File => file;
    public string Name => name;
    public string Type => type;
    public long Start => start;
    public long Length => length;

    /// <param name="offset">Bytes from the extent's start.</param>
    public abstract ImageRun Find(long offset, long length);
}

/// <summary>All bytes in their order, or none.</summary>
/// <param name="from">First byte in the file.</param>
sealed class VmdkFlatExtent(BlockDriver? file, string name, string type, long start, long length, long from)
    : VmdkExtent(file, name, type, start, length)
{
    public override ImageRun Find(long offset, long length) =>
        File == null ? new(RunKind.Zero, length) : new(RunKind.Data, length, from + offset, File);
}

/// <summary>Grains that lie anywhere: a directory of tables of them, both perhaps twice.</summary>
sealed class VmdkSparseExtent : VmdkExtent
{
    const long MaxCacheBytes = 8 << 20;
    const int SectorSize = 512, MarkerSize = 12;                   // of a compressed grain: sector, bytes

    readonly VmdkHeader _header;
    readonly ImageTable _directory;
    readonly ImageTable? _redundant;
    readonly ClusterTableCache _tables;
    readonly Dictionary<long, long> _copies = [];                  // where the copies of changed tables are
    readonly int _tableBytes;
    long _end;                                                     // the first byte that no grain has

    /// <param name="type">As the descriptor names it; empty of one that has the descriptor inside.</param>
    public VmdkSparseExtent(BlockDriver file, string name, string type, VmdkHeader header, long start, Action writeBack)
        : base(file, name, type, start, (long)header.Capacity * SectorSize)
    {
        _header = header;
        long perTable = header.EntriesPerTable * (long)header.GrainSize;
        long entries = ((long)header.Capacity + perTable - 1) / perTable;
        _directory = new ImageTable(file, (long)header.Directory * SectorSize, entries, sizeof(uint), false, writeBack);
        if (header.IsRedundant && header.RedundantDirectory != 0)
            _redundant = new ImageTable(file, (long)header.RedundantDirectory * SectorSize, entries, sizeof(uint),
                false, writeBack);
        _tableBytes = (int)header.EntriesPerTable * sizeof(uint);
        _tables = new ClusterTableCache(file, _tableBytes, MaxCacheBytes, writeBack);
        _end = (file.Length + GrainBytes - 1) / GrainBytes * GrainBytes;
    }

    public long GrainBytes => _header.GrainBytes;
    public bool IsCompressed => _header.IsCompressed;
    public bool HasDirty => _tables.HasDirty;

    public override ImageRun Find(long offset, long length)
    {
        long inGrain = offset % GrainBytes, found = Math.Min(length, GrainBytes - inGrain);
        uint sector = Entry(offset / GrainBytes, out _, out _);
        if (sector == 0) return new(RunKind.Unallocated, found);
        if (sector == 1 && _header.HasZeroGrains) return new(RunKind.Zero, found);
        long host = sector * (long)SectorSize;
        return IsCompressed ? new(RunKind.Packed, found, host, File) : new(RunKind.Data, found, host + inGrain, File);
    }

    /// <summary>A place for a grain; tables that are missing are not made, as QEMU's.</summary>
    public long Allocate(long grain)
    {
        Entry(grain, out ClusterTable? table, out _);
        if (table == null) throw Bad($"grain {grain} has no grain table");
        long host = _end;
        if (host / SectorSize > uint.MaxValue)
            throw new BlockException($"{Name}: the extent is full", Errno.NoSpc);
        _end += GrainBytes;
        return host;
    }

    public void Link(long grain, long host)
    {
        Entry(grain, out ClusterTable? table, out int at);
        BinaryPrimitives.WriteUInt32LittleEndian(table!.Data.AsSpan(at), (uint)(host / SectorSize));
        _tables.MarkDirty(table);
        if (_redundant != null && _redundant[grain / _header.EntriesPerTable] is not 0 and var copy)
            _copies[table.Offset] = (long)copy * SectorSize;
    }

    public void WriteTables()
    {
        foreach (ClusterTable table in _tables.Dirty)
            if (_copies.TryGetValue(table.Offset, out long copy))
                ScatterLists.Wait(File!.WriteAsync(copy, new ScatterList(table.Data)));
        _copies.Clear();
        _tables.Write();
    }

    /// <summary>Under nobody's lock.</summary>
    public byte[] Unpack(long host)
    {
        var marker = new byte[MarkerSize];
        ScatterLists.Wait(File!.ReadAsync(host, new ScatterList(marker)));
        uint bytes = BinaryPrimitives.ReadUInt32LittleEndian(marker.AsSpan(8));
        if (bytes == 0 || bytes > 2 * GrainBytes || host > File.Length - MarkerSize - bytes)
            throw Bad($"the compressed grain at 0x{host:x} has {bytes} bytes");
        var packed = new byte[bytes];
        ScatterLists.Wait(File.ReadAsync(host + MarkerSize, new ScatterList(packed)));
        return UnpackedPieces.Inflate(packed, (int)GrainBytes)
            ?? throw Bad($"the compressed grain at 0x{host:x} is damaged");
    }

    /// <summary>A grain packed, with its marker, in whole sectors.</summary>
    public byte[] Pack(long grain, ReadOnlySpan<byte> data)
    {
        using var packed = new MemoryStream();
        packed.Write(new byte[MarkerSize]);
        using (var deflate = new ZLibStream(packed, CompressionLevel.Optimal, leaveOpen: true)) deflate.Write(data);
        int bytes = (int)packed.Length - MarkerSize;
        packed.SetLength((packed.Length + SectorSize - 1) / SectorSize * SectorSize);
        byte[] whole = packed.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(whole, grain * (long)_header.GrainSize);
        BinaryPrimitives.WriteInt32LittleEndian(whole.AsSpan(8), bytes);
        return whole;
    }

    /// <summary>Room for a packed grain.</summary>
    public long AllocatePacked(long grain, int bytes)
    {
        if (Find(grain * GrainBytes, 1).Kind != RunKind.Unallocated)
            throw new BlockException("Could not write to allocated cluster for streamOptimized", Errno.Io);
        long host = Allocate(grain);
        _end = host + bytes;
        return host;
    }

    /// <summary>A grain's sector, and where it is said.</summary>
    uint Entry(long grain, out ClusterTable? table, out int at)
    {
        ulong sector = _directory[grain / _header.EntriesPerTable];
        at = (int)(grain % _header.EntriesPerTable) * sizeof(uint);
        table = sector == 0 ? null : _tables.Get((long)sector * SectorSize);
        return table == null ? 0 : BinaryPrimitives.ReadUInt32LittleEndian(table.Data.AsSpan(at));
    }

    BlockException Bad(string what) => new($"{Name}: the image is corrupt: {what}", Errno.Io);
}
