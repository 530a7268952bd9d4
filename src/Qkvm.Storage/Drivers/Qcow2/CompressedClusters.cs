using System.IO.Compression;
using Qkvm.Core.Block;
using ZstdSharp;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Reads compressed clusters, and keeps the last few, as guests read them in smaller pieces.</summary>
sealed class CompressedClusters
{
    const int Kept = 4;

    readonly Qcow2Store _store;
    readonly Lock _lock = new();
    readonly (ulong Descriptor, byte[]? Data)[] _recent = new (ulong, byte[]?)[Kept];
    int _next;

    public CompressedClusters(Qcow2Store store)
    {
        _store = store;
        store.Freed += Clear;
    }

    public async ValueTask ReadAsync(L2Entry entry, long guestOffset, ScatterList buffers)
    {
        byte[]? data = Recall(entry.Descriptor);
        if (data == null)
        {
            (long offset, int length) = entry.CompressedRange(_store.Layout.ClusterBits);
            if (offset >= _store.File.Length) throw Damaged(guestOffset);
            var source = new byte[length];
            await _store.File.ReadAsync(offset, new ScatterList(source)).ConfigureAwait(false);
            data = Decompress(source, guestOffset);
            Remember(entry.Descriptor, data);
        }
        buffers.CopyFrom(data.AsSpan((int)_store.Layout.OffsetInCluster(guestOffset), (int)buffers.Length));
    }

    /// <summary>Makes exactly one cluster; a stream that holds more is cut off, one that holds less is an
    /// error.</summary>
    byte[] Decompress(byte[] source, long guestOffset)
    {
        var data = new byte[_store.Layout.ClusterSize];
        try
        {
            if (_store.Header.CompressionType == 1)
            {
                DecompressZstd(source, data);
                return data;
            }
            using var inflate = new DeflateStream(new MemoryStream(source), CompressionMode.Decompress);
            inflate.ReadExactly(data);
            return data;
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException or ZstdException)
        {
            throw Damaged(guestOffset);
        }
    }

    /// <summary>A frame (RFC 8878), perhaps with padding behind it; only the start of what it holds may be
    /// wanted.</summary>
    static void DecompressZstd(byte[] source, byte[] data)
    {
        using var frame = new DecompressionStream(new MemoryStream(source), checkEndOfStream: false);
        frame.ReadExactly(data);
    }

    BlockException Damaged(long guestOffset) =>
        new($"{_store.Name}: the compressed cluster at guest offset 0x{guestOffset:x} is damaged", Errno.Io);

    byte[]? Recall(ulong descriptor)
    {
        lock (_lock)
            foreach ((ulong known, byte[]? data) in _recent)
                if (data != null && known == descriptor) return data;
        return null;
    }

    void Remember(ulong descriptor, byte[] data)
    {
        lock (_lock) _recent[_next = (_next + 1) % Kept] = (descriptor, data);
    }

    void Clear()
    {
        lock (_lock) Array.Clear(_recent);
    }
}
