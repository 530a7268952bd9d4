using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Cloop;

/// <summary>Format <c>cloop</c>: Knoppix's compressed loop images, version 2.0, read. Spec: cloop's
/// compressed_loop.h.</summary>
public sealed class CloopDriver : ImageNode
{
    public static readonly BlockDriverModel Model = new("cloop", [Property.Node("file", "the image")],
        static (_, parts) => Open(parts.File, ReadOnlyOptions(parts)))
    {
        Description = "compressed loop images; read-only",
    };

    /// <summary>How such a file begins: a script.</summary>
    public static ReadOnlySpan<byte> Magic =>
        "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 "u8;

    const int BlockSizeAt = 128, BlocksAt = 132, OffsetsAt = 136, SectorSize = 512, MaxBlockSize = 64 << 20;

    ImageTable _offsets = null!;
    readonly UnpackedPieces _unpacked = new();
    int _blockSize = SectorSize;
    long _blocks;

    CloopDriver(BlockDriver file, NodeOptions options) : base(file, options) { }

    public static CloopDriver Open(BlockDriver file, NodeOptions options) => Opened(new CloopDriver(file, options));

    public override string FormatName => Model.Name;
    public override long Length => _blocks * _blockSize;
    private protected override int BlockSize => _blockSize;

    protected override void Load()
    {
        byte[] header = ReadFile(0, OffsetsAt);
        if (!header.AsSpan().StartsWith(Magic)) throw Bad("Image not in cloop format");
        uint size = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(BlockSizeAt));
        uint blocks = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(BlocksAt));
        if (size == 0) throw Bad("block_size cannot be zero");
        if (size % SectorSize != 0) throw Bad($"block_size {size} must be a multiple of {SectorSize}");
        if (size > MaxBlockSize) throw Bad($"block_size {size} must be {MaxBlockSize >> 20} MB or less");
        if ((blocks + 1L) * sizeof(ulong) > 512 << 20) throw Bad("image requires too many offsets, try increasing "
            + "block size");
        (_blockSize, _blocks) = ((int)size, blocks);
        _offsets = new ImageTable(File, OffsetsAt, blocks + 1L, sizeof(ulong), isBigEndian: true, static () => { });
    }

    private protected override ImageRun Find(long offset, long length) =>
        new(RunKind.Packed, Math.Min(length, _blockSize - offset % _blockSize));

    private protected override ValueTask ReadPackedAsync(long offset, ScatterList buffers)
    {
        long block = offset / _blockSize;
        byte[] data = _unpacked.Get(block, () => Unpack(block));
        buffers.CopyFrom(data.AsSpan((int)(offset % _blockSize), (int)buffers.Length));
        return default;
    }

    byte[] Unpack(long block)
    {
        ulong start, end;
        lock (Sync) (start, end) = (_offsets[block], _offsets[block + 1]);
        if (end < start || end - start > 2 * MaxBlockSize || start > (ulong)File.Length)
            throw new BlockException($"{FileName}: the image is corrupt: block {block} lies from {start} to {end}",
                Errno.Io);
        return UnpackedPieces.Inflate(ReadFile((long)start, (int)(end - start)), _blockSize)
            ?? throw new BlockException($"{FileName}: the compressed block {block} is damaged", Errno.Io);
    }
}
