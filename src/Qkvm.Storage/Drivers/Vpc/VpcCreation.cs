using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vpc;

/// <summary>Makes vpc images as <c>qemu-img create -f vpc</c> does.</summary>
static class VpcCreation
{
    public static readonly ImageCreation Model = new(
        [
            Property.Size("size", help: "Virtual disk size"),
            Property.Text("subformat", help: "Type of virtual hard disk format. Supported formats are {dynamic "
                + "(default) | fixed} "),
            Property.Bool("force_size", false, "Force disk size calculation to use the actual size specified, rather "
                + "than using the nearest CHS-based calculation") with { Default = null },
        ], CreateAsync);

    const int SectorSize = 512, BlockSize = 2 << 20, DynamicHeaderSize = 1024, TableAt = SectorSize + DynamicHeaderSize;
    const long MostSectors = 0xFF00_0000;                          // 2040 GiB

    static async ValueTask CreateAsync(NewImage image)
    {
        bool isForced = image.Options.Bool("force_size");
        bool isFixed = image.Options.Text("subformat") switch
        {
            null or "dynamic" => false,
            "fixed" => true,
            string other => throw image.Error($"Parameter 'subformat' does not accept value '{other}'"),
        };
        long sectors = image.Size / SectorSize;
        const long mostByGeometry = (long)VpcFooter.MostCylinders * VpcFooter.MostHeads * VpcFooter.MostSectors;
        VpcGeometry geometry = isForced ? new(VpcFooter.MostCylinders, VpcFooter.MostHeads, VpcFooter.MostSectors)
            : VpcGeometry.Covering(sectors);
        if (!isForced && geometry.Total != mostByGeometry) sectors = geometry.Total;
        if (sectors > MostSectors) throw image.Error("Disk size is too large, max size is 2040 GiB");
        var footer = new VpcFooter
        {
            Type = isFixed ? VpcFooter.Fixed : VpcFooter.Dynamic, Creator = isForced ? "qem2" : "qemu",
            CurrentSize = (ulong)(sectors * SectorSize), Cylinders = geometry.Cylinders, Heads = geometry.Heads,
            SectorsPerTrack = geometry.Sectors,
        };
        byte[] raw = footer.ToBytes();
        if (isFixed) await image.File.WriteAsync(sectors * SectorSize, new ScatterList(raw)).ConfigureAwait(false);
        else await WriteDynamicAsync(image.File, raw, sectors).ConfigureAwait(false);
        await image.File.FlushAsync().ConfigureAwait(false);
    }

    /// <summary>Footer, dynamic header, an empty table, footer.</summary>
    static async ValueTask WriteDynamicAsync(BlockDriver file, byte[] footer, long sectors)
    {
        long entries = (sectors + BlockSize / SectorSize - 1) / (BlockSize / SectorSize);
        var header = new byte[DynamicHeaderSize];
        "cxsparse"u8.CopyTo(header);
        BinaryPrimitives.WriteUInt64BigEndian(header.AsSpan(8), ulong.MaxValue);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(16), TableAt);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(24), 0x0001_0000);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(28), (int)entries);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(32), BlockSize);
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(36), VpcFooter.Checksum(header, 36));
        var table = new byte[(entries * sizeof(uint) + SectorSize - 1) / SectorSize * SectorSize];
        table.AsSpan().Fill(0xFF);
        await file.WriteAsync(0, new ScatterList([footer, header, table, footer])).ConfigureAwait(false);
    }
}
