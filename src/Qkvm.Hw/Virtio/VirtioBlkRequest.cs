using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>One request of a virtio block device, from its chain to its status byte. Virtio 1.2, section
/// 5.2.6.</summary>
sealed class VirtioBlkRequest(VirtioBlkQueue home) : BlockRequest
{
    public const int HeaderLength = 16;                            // struct virtio_blk_req: type, reserved, sector
    const int SegmentLength = 16;                                  // struct virtio_blk_discard_write_zeroes

    const uint In = 0, Out = 1, FlushType = 4, GetId = 8, DiscardType = 11, WriteZeroesType = 13;
    const byte Ok = 0, IoError = 1, Unsupported = 2;
    const uint Unmap = 1;

    Virtqueue _queue = null!;
    DescriptorChain _chain = null!;

    VirtioBlk Disk => home.Disk;

    public void Begin(Virtqueue queue, DescriptorChain chain)
    {
        (_queue, _chain) = (queue, chain);
        Span<byte> header = stackalloc byte[HeaderLength];
        chain.Readable.Slice(0, HeaderLength).CopyTo(header);
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(header);
        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
        switch (type)
        {
            case In: Transfer(BlockOperation.Read, sector, chain.Writable.Slice(0, chain.WritableLength - 1)); break;
            case Out: Transfer(BlockOperation.Write, sector,
                chain.Readable.Slice(HeaderLength, chain.ReadableLength - HeaderLength)); break;
            case FlushType: Operation = BlockOperation.Flush; home.Submit(this); break;
            case GetId: SendId(); break;
            case DiscardType when Disk.AllowsDiscard: Clear(BlockOperation.Discard); break;
            case WriteZeroesType when Disk.AllowsWriteZeroes: Clear(BlockOperation.WriteZeroes); break;
            default: Finish(Unsupported); break;
        }
    }

    public override void Complete(int errno) => Finish(errno == 0 ? Ok : IoError);

    void Transfer(BlockOperation operation, ulong sector, ScatterList data)
    {
        bool isWrite = operation == BlockOperation.Write;
        if (!IsOnDisk(sector, (ulong)data.Length) || isWrite && Disk.Backend.IsReadOnly) { Finish(IoError); return; }
        Operation = operation;
        Offset = (long)sector * VirtioBlk.SectorSize;
        Buffers = data;
        home.Submit(this);
    }

    void Clear(BlockOperation operation)
    {
        // one segment, as max_*_seg says
        if (_chain.ReadableLength != HeaderLength + SegmentLength) { Finish(Unsupported); return; }
        Span<byte> segment = stackalloc byte[SegmentLength];
        _chain.Readable.Slice(HeaderLength, SegmentLength).CopyTo(segment);
        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(segment);
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(segment[8..]);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(segment[12..]);
        bool mayUnmap = operation == BlockOperation.WriteZeroes && (flags & Unmap) != 0;
        if (flags != 0 && !mayUnmap || (flags & ~Unmap) != 0) { Finish(Unsupported); return; }
        ulong length = (ulong)count * VirtioBlk.SectorSize;
        if (count > VirtioBlk.MaxSectors || !IsOnDisk(sector, length) || Disk.Backend.IsReadOnly)
            { Finish(IoError); return; }
        Operation = operation;
        Offset = (long)sector * VirtioBlk.SectorSize;
        Length = (long)length;
        MayUnmap = mayUnmap;
        home.Submit(this);
    }

    /// <summary>Up to 20 bytes, without a terminator when it is that long.</summary>
    void SendId()
    {
        Span<byte> id = stackalloc byte[VirtioBlk.IdLength];
        id.Clear();
        Encoding.UTF8.GetBytes(Disk.Serial, id);
        int count = (int)Math.Min(_chain.WritableLength - 1, VirtioBlk.IdLength);
        _chain.Writable.Slice(0, count).CopyFrom(id);
        Finish(Ok);
    }

    bool IsOnDisk(ulong sector, ulong length)
    {
        ulong capacity = (ulong)Disk.Backend.Length / VirtioBlk.SectorSize;
        uint logical = (uint)Disk.LogicalBlock;
        return length % logical == 0 && sector % (logical / VirtioBlk.SectorSize) == 0
            && sector <= capacity && length / VirtioBlk.SectorSize <= capacity - sector;
    }

    void Finish(byte status)
    {
        _chain.Writable.Slice(_chain.WritableLength - 1, 1).CopyFrom([status]);
        Buffers = default;
        home.Finished(this, _queue, _chain);
    }
}
