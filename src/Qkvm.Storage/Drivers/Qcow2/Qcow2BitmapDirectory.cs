using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Where bitmaps lie: a directory of them, a table for each, clusters of bits. Spec: QEMU
/// docs/interop/qcow2.txt, "Bitmaps extension".</summary>
sealed class Qcow2BitmapDirectory(Qcow2Store store, Qcow2Extensions extensions)
{
    public const int MaxBitmaps = 65535, ExtensionSize = 24;
    const long MaxDirectory = 64 << 20, MaxBitmapBytes = 512 << 20, MaxAllBytes = 1L << 30;
    const ulong AllOnes = 1;

    readonly int _clusterSize = store.Layout.ClusterSize;

    /// <summary>Place, bytes and number of entries; null where there are no bitmaps, or they are void.</summary>
    static (long Offset, long Length, int Count)? Of(Qcow2Store store, Qcow2Extensions extensions)
    {
        ReadOnlySpan<byte> data = extensions.Find(Qcow2Extension.Bitmaps).Span;
        if (data.Length < ExtensionSize || (store.Header.Autoclear & Qcow2Features.AutoclearBitmaps) == 0) return null;
        uint count = BinaryPrimitives.ReadUInt32BigEndian(data);
        ulong length = BinaryPrimitives.ReadUInt64BigEndian(data[8..]),
            offset = BinaryPrimitives.ReadUInt64BigEndian(data[16..]);
        if (count is 0 or > MaxBitmaps || length > MaxDirectory || offset % (uint)store.Layout.ClusterSize != 0
            || offset > (ulong)Math.Max(0, store.File.Length - (long)length))
            throw new ConfigurationException($"Could not open '{store.Name}': the directory of {count} bitmaps at "
                + $"0x{offset:x} is impossible");
        return ((long)offset, (long)length, (int)count);
    }

    /// <summary>What the image has, without bits.</summary>
    public List<Qcow2Bitmap> Read()
    {
        var bitmaps = new List<Qcow2Bitmap>();
        if (Of(store, extensions) is not { } place) return bitmaps;
        var directory = new byte[place.Length];
        store.Read(place.Offset, directory);
        long all = 0;
        for (int at = 0; bitmaps.Count < place.Count;)
        {
            Qcow2Bitmap? bitmap = Qcow2Bitmap.ReadFrom(directory.AsSpan(at), store.Header.Size, _clusterSize);
            if (bitmap == null || bitmap.ByteLength > MaxBitmapBytes || (all += bitmap.ByteLength) > MaxAllBytes)
                throw new ConfigurationException($"Could not open '{store.Name}': its bitmap {bitmaps.Count} is "
                    + "impossible");
            bitmaps.Add(bitmap);
            at += Math.Min(bitmap.PaddedSize, directory.Length - at);
        }
        return bitmaps;
    }

    public void LoadBits(Qcow2Bitmap bitmap)
    {
        ulong[] table = ReadTable(bitmap);
        var cluster = new byte[_clusterSize];
        for (int i = 0; i < table.Length; i++)
        {
            if (table[i] == 0) continue;
            if (table[i] == AllOnes) cluster.AsSpan().Fill(0xFF);
            else store.Read((long)(table[i] & L2Entry.OffsetMask), cluster);
            bitmap.Load((long)i * _clusterSize, cluster.AsSpan(0,
                (int)Math.Min(_clusterSize, bitmap.ByteLength - (long)i * _clusterSize)));
        }
    }

    /// <summary>Marks all that it has as in use, in place: until they are stored again.</summary>
    public void MarkInUse(IReadOnlyList<Qcow2Bitmap> bitmaps)
    {
        if (Of(store, extensions) is not { } place) return;
        store.Write(place.Offset, ToBytes(bitmaps, isInUse: true));
        store.FlushFile();
    }

    /// <summary>Writes bits, tables and directory to new places; the header does not say so yet.</summary>
    /// <param name="owned">Bitmaps whose bits are in memory; the others stay where they are.</param>
    public void Write(IReadOnlyList<Qcow2Bitmap> bitmaps, Func<Qcow2Bitmap, bool> owned)
    {
        foreach (Qcow2Bitmap bitmap in bitmaps.Where(owned)) WriteBits(bitmap);
        if (bitmaps.Count == 0)
        {
            extensions.Set(Qcow2Extension.Bitmaps, null);
            return;
        }
        byte[] directory = ToBytes(bitmaps, isInUse: false);
        long home = store.AllocateTogether(ClustersOf(directory.Length));
        store.Write(home, directory);
        var extension = new byte[ExtensionSize];
        BinaryPrimitives.WriteInt32BigEndian(extension, bitmaps.Count);
        BinaryPrimitives.WriteInt64BigEndian(extension.AsSpan(8), directory.Length);
        BinaryPrimitives.WriteInt64BigEndian(extension.AsSpan(16), home);
        extensions.Set(Qcow2Extension.Bitmaps, extension);
    }

    void WriteBits(Qcow2Bitmap bitmap)
    {
        int entries = ClustersOf(bitmap.ByteLength);
        var table = new byte[Math.Max(1, (long)entries) * sizeof(ulong)];
        var cluster = new byte[_clusterSize];
        for (int i = 0; i < entries; i++)
        {
            bitmap.Save((long)i * _clusterSize, cluster);
            if (!cluster.AsSpan().ContainsAnyExcept((byte)0)) continue;
            (long home, _) = store.Refcounts.Allocate(1, out _);
            store.Write(home, cluster);
            BinaryPrimitives.WriteInt64BigEndian(table.AsSpan(i * sizeof(ulong)), home);
        }
        bitmap.TableOffset = store.AllocateTogether(ClustersOf(table.Length));
        bitmap.TableEntries = entries;
        store.Write(bitmap.TableOffset, table);
    }

    byte[] ToBytes(IReadOnlyList<Qcow2Bitmap> bitmaps, bool isInUse)
    {
        var directory = new byte[bitmaps.Sum(bitmap => bitmap.PaddedSize)];
        int at = 0;
        foreach (Qcow2Bitmap bitmap in bitmaps)
        {
            bitmap.WriteTo(directory.AsSpan(at), isInUse);
            at += bitmap.PaddedSize;
        }
        return directory;
    }

    int ClustersOf(long bytes) => (int)((bytes + _clusterSize - 1) / _clusterSize);

    ulong[] ReadTable(Qcow2Bitmap bitmap)
    {
        long bytes = bitmap.TableEntries * 8L;
        if (bitmap.TableEntries < 0 || bytes > MaxDirectory
            || bitmap.TableOffset > store.File.Length - bytes) return [];
        var raw = new byte[bytes];
        store.Read(bitmap.TableOffset, raw);
        var table = new ulong[bitmap.TableEntries];
        for (int i = 0; i < table.Length; i++) table[i] = BinaryPrimitives.ReadUInt64BigEndian(raw.AsSpan(i * 8));
        return table;
    }

    /// <summary>A bitmap's own clusters: table and bits.</summary>
    public IEnumerable<(long Offset, long Length)> ClustersOf(Qcow2Bitmap bitmap)
    {
        if (bitmap.TableOffset == 0) yield break;
        yield return (bitmap.TableOffset, Math.Max(1, bitmap.TableEntries) * 8L);
        foreach (ulong entry in ReadTable(bitmap))
            if ((entry & L2Entry.OffsetMask) is not 0 and var at) yield return ((long)at, _clusterSize);
    }

    /// <summary>All that the image's bitmaps take.</summary>
    public static IEnumerable<(long Offset, long Length)> Clusters(Qcow2Store store, Qcow2Extensions extensions)
    {
        if (Of(store, extensions) is not { } place) yield break;
        yield return (place.Offset, place.Length);
        var directory = new Qcow2BitmapDirectory(store, extensions);
        foreach (Qcow2Bitmap bitmap in directory.Read())
            foreach ((long, long) run in directory.ClustersOf(bitmap)) yield return run;
    }
}
