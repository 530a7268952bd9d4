using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vdi;

/// <summary>Makes vdi images as <c>qemu-img create -f vdi</c> does.</summary>
static class VdiCreation
{
    public static readonly ImageCreation Model = new(
        [
            Property.Size("size", help: "Virtual disk size"),
            Property.Bool("static", false, "VDI static (pre-allocated) image"),
        ], CreateAsync);

    const long MostBlocks = (int.MaxValue - VdiHeader.Size) / sizeof(uint);

    static async ValueTask CreateAsync(NewImage image)
    {
        bool isStatic = image.Options.Bool("static");
        long blocks = (image.Size + VdiHeader.BlockSize - 1) / VdiHeader.BlockSize;
        if (blocks > MostBlocks)
            throw image.Error($"Unsupported VDI image size (size is 0x{image.Size:x}, max supported is "
                + $"0x{MostBlocks * VdiHeader.BlockSize:x})");
        int mapBytes = (int)(blocks * sizeof(uint) + 511) / 512 * 512;
        var header = new VdiHeader
        {
            Type = isStatic ? VdiHeader.Static : VdiHeader.Dynamic, DataOffset = (uint)(VdiHeader.Size + mapBytes),
            DiskSize = (ulong)image.Size, Blocks = (uint)blocks, BlocksAllocated = isStatic ? (uint)blocks : 0,
        };
        var start = new byte[VdiHeader.Size + mapBytes];
        header.WriteTo(start);
        for (int i = 0; i < blocks; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(start.AsSpan(VdiHeader.Size + i * sizeof(uint)),
                isStatic ? (uint)i : uint.MaxValue);
        await image.File.WriteAsync(0, new ScatterList(start)).ConfigureAwait(false);
        if (isStatic && blocks > 0)
            await image.File.WriteAsync(header.DataOffset + blocks * VdiHeader.BlockSize - 1,
                new ScatterList(new byte[1])).ConfigureAwait(false);
        await image.File.FlushAsync().ConfigureAwait(false);
    }
}
