using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Drivers.Vdi;

/// <summary>The first sector of a VDI image, version 1.1. Spec: VirtualBox, "All about VDIs" and VDICore.h.</summary>
sealed class VdiHeader
{
    public const int Size = 512, BlockSize = 1 << 20;
    public const uint Signature = 0xBEDA107F, Version = 0x0001_0001, Dynamic = 1, Static = 2;
    public const int BlocksAllocatedAt = 0x184;

    const int SignatureAt = 0x40, VersionAt = 0x44, HeaderSizeAt = 0x48, TypeAt = 0x4C, MapAt = 0x154, DataAt = 0x158,
        SectorSizeAt = 0x168, DiskSizeAt = 0x170, BlockSizeAt = 0x178, BlocksAt = 0x180, ImageIdAt = 0x188,
        SnapshotIdAt = 0x198, LinkAt = 0x1A8, ParentAt = 0x1B8, IdSize = 16;
    const string Text = "<<< QEMU VM Virtual Disk Image >>>\n";

    /// <summary>Dynamic or Static.</summary>
    public uint Type { get; init; } = Dynamic;

    /// <summary>Byte offset of the block map.</summary>
    public uint MapOffset { get; init; } = Size;

    /// <summary>Byte offset of the first block.</summary>
    public uint DataOffset { get; init; }

    /// <summary>Bytes of the disk.</summary>
    public ulong DiskSize { get; init; }

    /// <summary>Entries of the block map.</summary>
    public uint Blocks { get; init; }
    public uint BlocksAllocated { get; init; }

    /// <summary>Null and what is wrong, where it cannot be an image that we know.</summary>
    public static VdiHeader? ReadFrom(ReadOnlySpan<byte> data, out string wrong)
    {
        uint U32(ReadOnlySpan<byte> from, int at) => BinaryPrimitives.ReadUInt32LittleEndian(from[at..]);
        var header = new VdiHeader
        {
            Type = U32(data, TypeAt), MapOffset = U32(data, MapAt), DataOffset = U32(data, DataAt),
            DiskSize = BinaryPrimitives.ReadUInt64LittleEndian(data[DiskSizeAt..]), Blocks = U32(data, BlocksAt),
            BlocksAllocated = U32(data, BlocksAllocatedAt),
        };
        wrong = U32(data, SignatureAt) != Signature ? "Image not in VDI format"
            : U32(data, VersionAt) != Version
                ? $"unsupported VDI image (version {U32(data, VersionAt) >> 16}.{(ushort)U32(data, VersionAt)})"
            : header.Type is not (Dynamic or Static) ? $"unsupported VDI image (type {header.Type})"
            : U32(data, SectorSizeAt) != 512
                ? $"unsupported VDI image (sector size {U32(data, SectorSizeAt)} is not 512)"
            : U32(data, BlockSizeAt) != BlockSize
                ? $"unsupported VDI image (block size {U32(data, BlockSizeAt)} is not {BlockSize})"
            : header.MapOffset % 512 != 0 || header.MapOffset < Size
                ? $"unsupported VDI image (unaligned block map offset 0x{header.MapOffset:x})"
            : header.DataOffset % 512 != 0 || header.DataOffset < header.MapOffset + header.Blocks * 4L
                ? $"unsupported VDI image (its blocks at 0x{header.DataOffset:x} lie on its block map)"
            : header.DiskSize > (ulong)header.Blocks * BlockSize
                ? $"unsupported VDI image (disk size {header.DiskSize}, image bitmap has room for "
                    + $"{(ulong)header.Blocks * BlockSize})"
            : data.Slice(LinkAt, IdSize).ContainsAnyExcept((byte)0)
                || data.Slice(ParentAt, IdSize).ContainsAnyExcept((byte)0)
                ? "unsupported VDI image (it lies over another)" : "";
        return wrong == "" ? header : null;
    }

    public void WriteTo(Span<byte> data)
    {
        void Put(Span<byte> to, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(to[at..], value);
        Encoding.ASCII.GetBytes(Text, data);
        Put(data, SignatureAt, Signature);
        Put(data, VersionAt, Version);
        Put(data, HeaderSizeAt, 0x180);
        Put(data, TypeAt, Type);
        Put(data, MapAt, MapOffset);
        Put(data, DataAt, DataOffset);
        Put(data, SectorSizeAt, 512);
        BinaryPrimitives.WriteUInt64LittleEndian(data[DiskSizeAt..], DiskSize);
        Put(data, BlockSizeAt, BlockSize);
        Put(data, BlocksAt, Blocks);
        Put(data, BlocksAllocatedAt, BlocksAllocated);
        Guid.NewGuid().TryWriteBytes(data[ImageIdAt..]);
        Guid.NewGuid().TryWriteBytes(data[SnapshotIdAt..]);
    }
}
