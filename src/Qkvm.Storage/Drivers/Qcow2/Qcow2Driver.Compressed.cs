using System.Buffers;
using System.IO.Compression;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using ZstdSharp;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Compressed clusters are written: they lie byte by byte after one another, and share clusters of the
/// file.</summary>
public sealed partial class Qcow2Driver : ICompressedWrites
{
    /// <summary>A cluster of the file of which a part is free; under the store's lock.</summary>
    long _compressedEnd;

    public async ValueTask WriteCompressedAsync(long offset, ScatterList buffers)
    {
        if (_store.HasDataFile || _store.IsEncrypted)
            throw new BlockException($"{FileName}: with a data file or encryption there are no compressed clusters",
                Errno.OpNotSupp);
        if (_layout.OffsetInCluster(offset) != 0 || buffers.Length > _layout.ClusterSize
            || buffers.Length < _layout.ClusterSize && offset + buffers.Length != Length)
            throw new BlockException($"{FileName}: only whole clusters can be compressed", Errno.Inval);
        byte[] plain = ArrayPool<byte>.Shared.Rent(_layout.ClusterSize);
        byte[] packed = ArrayPool<byte>.Shared.Rent(_layout.ClusterSize);
        try
        {
            buffers.CopyTo(plain);
            plain.AsSpan((int)buffers.Length, _layout.ClusterSize - (int)buffers.Length).Clear();
            int length = Compress(plain.AsMemory(0, _layout.ClusterSize), packed);
            if (length == 0) await WriteAsync(offset, buffers).ConfigureAwait(false);
            else await WritePackedAsync(offset, packed.AsMemory(0, length)).ConfigureAwait(false);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(plain);
            ArrayPool<byte>.Shared.Return(packed);
        }
    }

    async ValueTask WritePackedAsync(long offset, Memory<byte> packed)
    {
        PrepareForWriting();
        MarkDirty(offset, _layout.ClusterSize);
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, _layout.ClusterSize, exclusive: true)
            .ConfigureAwait(false);
        try
        {
            long place;
            lock (_store.Sync) place = AllocateBytes(packed.Length);
            await File.WriteAsync(place, new ScatterList(packed)).ConfigureAwait(false);
            lock (_store.Sync) _writer.SetCompressed(offset, place, packed.Length);
        }
        finally { _clusters.Release(hold); }
    }

    /// <summary>The length of what the cluster becomes, 0 where it does not become shorter.</summary>
    int Compress(Memory<byte> plain, byte[] packed)
    {
        int room = _layout.ClusterSize - 1;
        if (Info.Header.CompressionType == 1)
        {
            using var zstd = new Compressor();
            return zstd.TryWrap(plain.Span, packed.AsSpan(0, room), out int written) ? written : 0;
        }
        using var target = new FixedStream(packed, room);
        using (var deflate = new DeflateStream(target, CompressionLevel.Optimal, leaveOpen: true))
            deflate.Write(plain.Span);
        return target.IsFull ? 0 : target.Count;
    }

    /// <summary>Room behind the last compressed cluster, in the same clusters of the file where that is
    /// possible.</summary>
    long AllocateBytes(int length)
    {
        Qcow2Refcounts refcounts = _store.Refcounts;
        int clusterSize = _layout.ClusterSize;
        long left = _compressedEnd == 0 ? 0 : -_compressedEnd & (clusterSize - 1);
        bool isShared = left > 0 && refcounts.CanIncrease(_compressedEnd >> _layout.ClusterBits);
        if (isShared && left >= length) refcounts.Increase(_compressedEnd >> _layout.ClusterBits);
        else
        {
            (long fresh, _) = refcounts.Allocate(1, out _);
            if (isShared && fresh == _compressedEnd + left) refcounts.Increase(_compressedEnd >> _layout.ClusterBits);
            else _compressedEnd = fresh;                           // a new cluster is ours alone
        }
        long place = _compressedEnd;
        _compressedEnd += length;
        return place;
    }

    /// <summary>Takes bytes up to a limit, and then tells that it is full.</summary>
    sealed class FixedStream(byte[] target, int limit) : Stream
    {
        public int Count { get; private set; }
        public bool IsFull { get; private set; }

        public override void Write(ReadOnlySpan<byte> data)
        {
            IsFull |= data.Length > limit - Count;
            if (IsFull) return;
            data.CopyTo(target.AsSpan(Count));
            Count += data.Length;
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));
        public override bool CanRead => false;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => Count;
        public override long Position { get => Count; set => throw new NotSupportedException(); }
        public override void Flush() { }
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
