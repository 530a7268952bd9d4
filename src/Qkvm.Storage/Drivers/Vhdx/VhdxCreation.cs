using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vhdx;

/// <summary>Makes vhdx images as <c>qemu-img create -f vhdx</c> does.</summary>
static class VhdxCreation
{
    public static readonly ImageCreation Model = new(
        [
            Property.Size("size", help: "Virtual disk size; max of 64TB."),
            Property.Size("log_size", 1 << 20, "Log size; min 1MB."),
            Property.Size("block_size", 0,
                "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size."),
            Property.Text("subformat", help: "VHDX format type, can be either 'dynamic' or 'fixed'. Default is "
                + "'dynamic'."),
            Property.Bool("block_state_zero", false, "Force use of payload blocks of type 'ZERO'. Non-standard, but "
                + "default.  Do not set to 'off' when using 'qemu-img convert' with subformat=dynamic.")
                with { Default = null },
        ], CreateAsync);

    const int MiB = VhdxFormat.Mebibyte, MetadataLength = MiB, SectorSize = 512, PhysicalSectorSize = 512;
    const long MostBytes = 64L << 40;

    static async ValueTask CreateAsync(NewImage image)
    {
        Properties options = image.Options;
        if (image.Size > MostBytes) throw image.Error("Image size too large; max of 64TB");
        long log = Math.Max(MiB, (long)options.Size("log_size")), block = (long)options.Size("block_size");
        if (log % MiB != 0 || log > 64 * MiB) throw image.Error("Log size must be a multiple of 1 MB");
        if (block == 0) block = AutomaticBlockSize(image.Size);
        if (block % MiB != 0) throw image.Error("Block size must be a multiple of 1 MB");
        if (!long.IsPow2(block)) throw image.Error("Block size must be a power of two");
        if (block > 256 * MiB) throw image.Error("Block size must not exceed 256 MB");
        bool isFixed = options.Text("subformat") switch
        {
            null or "dynamic" => false,
            "fixed" => true,
            string other => throw image.Error($"Parameter 'subformat' does not accept value '{other}'"),
        };

        long blocks = (image.Size + block - 1) / block, ratio = (1L << 23) * SectorSize / block;
        long entries = blocks + (blocks == 0 ? 0 : (blocks - 1) / ratio);
        long tableAt = MiB + log, tableLength = Math.Max(MiB, (entries * sizeof(ulong) + MiB - 1) / MiB * MiB);
        long metadataAt = tableAt + tableLength;
        long end = (metadataAt + MetadataLength + block - 1) / block * block;
        BlockDriver file = image.File;
        await WriteAsync(VhdxFormat.RegionsAt, Regions(tableAt, tableLength, metadataAt)).ConfigureAwait(false);
        await WriteAsync(VhdxFormat.SecondRegionsAt, Regions(tableAt, tableLength, metadataAt)).ConfigureAwait(false);
        await WriteAsync(metadataAt, Metadata(image.Size, (uint)block, isFixed)).ConfigureAwait(false);
        if (isFixed) end = await WriteFixedTableAsync(file, tableAt, blocks, ratio, block, end).ConfigureAwait(false);
        await WriteAsync(end - 1, new byte[1]).ConfigureAwait(false);
        var header = new VhdxHeader(1, Guid.NewGuid(), Guid.NewGuid(), Guid.Empty, (uint)log, MiB);
        await WriteAsync(VhdxFormat.HeaderAt, header.ToBytes()).ConfigureAwait(false);
        await WriteAsync(VhdxFormat.SecondHeaderAt, (header with { Sequence = 2 }).ToBytes()).ConfigureAwait(false);
        await file.FlushAsync().ConfigureAwait(false);
        await WriteAsync(0, FileType()).ConfigureAwait(false);     // last: now it is an image
        await file.FlushAsync().ConfigureAwait(false);

        ValueTask WriteAsync(long at, byte[] data) => file.WriteAsync(at, new ScatterList(data));
    }

    /// <summary>QEMU's choice.</summary>
    static long AutomaticBlockSize(long size) => size switch
    {
        > 32L << 40 => 64 * MiB,
        > 100L << 30 => 32 * MiB,
        > 1L << 30 => 16 * MiB,
        _ => 8 * MiB,
    };

    /// <summary>All blocks in their order; returns the file's end.</summary>
    static async ValueTask<long> WriteFixedTableAsync(BlockDriver file, long at, long blocks, long ratio, long block,
        long start)
    {
        const int piece = 64 << 10;
        var table = new byte[piece];
        long entries = blocks + (blocks == 0 ? 0 : (blocks - 1) / ratio), host = start;
        for (long first = 0; first < entries; first += piece / sizeof(ulong))
        {
            table.AsSpan().Clear();
            for (int i = 0; i < piece / sizeof(ulong) && first + i < entries; i++)
            {
                if ((first + i) % (ratio + 1) == ratio) continue;  // a sector bitmap's, of disks over others
                BinaryPrimitives.WriteInt64LittleEndian(table.AsSpan(i * sizeof(ulong)), host | 6);
                host += block;
            }
            await file.WriteAsync(at + first * sizeof(ulong), new ScatterList(table)).ConfigureAwait(false);
        }
        return host;
    }

    static byte[] FileType()
    {
        var data = new byte[VhdxFormat.HeaderAt];
        "vhdxfile"u8.CopyTo(data);
        Encoding.Unicode.GetBytes("QEMU v7.2.22", data.AsSpan(8));
        return data;
    }

    static byte[] Regions(long tableAt, long tableLength, long metadataAt)
    {
        var data = new byte[VhdxFormat.RegionTableSize];
        "regi"u8.CopyTo(data);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(8), 2);
        Entry(16, VhdxFormat.BlockTableRegion, tableAt, tableLength);
        Entry(48, VhdxFormat.MetadataRegion, metadataAt, MetadataLength);
        VhdxFormat.Seal(data);
        return data;

        void Entry(int at, Guid id, long offset, long length)
        {
            id.TryWriteBytes(data.AsSpan(at));
            BinaryPrimitives.WriteInt64LittleEndian(data.AsSpan(at + 16), offset);
            BinaryPrimitives.WriteInt32LittleEndian(data.AsSpan(at + 24), (int)length);
            data[at + 28] = 1;                                     // required
        }
    }

    static byte[] Metadata(long size, uint block, bool isFixed)
    {
        const int items = 64 << 10;
        const byte isDisk = 2, isRequired = 4;
        var data = new byte[items + 64];
        "metadata"u8.CopyTo(data);
        BinaryPrimitives.WriteUInt16LittleEndian(data.AsSpan(10), 5);
        Item(0, VhdxFormat.FileParameters, 0, 8, isRequired);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(items), block);
        data[items + 4] = (byte)(isFixed ? 1 : 0);                 // leave blocks allocated
        Item(1, VhdxFormat.DiskSize, 8, 8, isDisk | isRequired);
        BinaryPrimitives.WriteInt64LittleEndian(data.AsSpan(items + 8), size);
        Item(2, VhdxFormat.DiskId, 16, 16, isDisk | isRequired);
        Guid.NewGuid().TryWriteBytes(data.AsSpan(items + 16));
        Item(3, VhdxFormat.LogicalSectorSize, 32, 4, isDisk | isRequired);
        BinaryPrimitives.WriteInt32LittleEndian(data.AsSpan(items + 32), SectorSize);
        Item(4, VhdxFormat.PhysicalSectorSize, 36, 4, isDisk | isRequired);
        BinaryPrimitives.WriteInt32LittleEndian(data.AsSpan(items + 36), PhysicalSectorSize);
        return data;

        void Item(int index, Guid id, int offset, int length, byte flags)
        {
            Span<byte> entry = data.AsSpan(32 + index * 32);
            id.TryWriteBytes(entry);
            BinaryPrimitives.WriteInt32LittleEndian(entry[16..], items + offset);
            BinaryPrimitives.WriteInt32LittleEndian(entry[20..], length);
            entry[24] = flags;
        }
    }
}
