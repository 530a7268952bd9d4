using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Scsi;

/// <summary>The units that users plug into a SCSI bus.</summary>
public static class ScsiModels
{
    const string AutomaticGranularity = "4294967295";
    const int LeastGranularity = 4096;                             // as QEMU has it

    static readonly Property[] s_common =
    [
        .. DiskProperties.All, Property.Text("vendor", "QEMU"), Property.Text("ver", "2.5+"),
        Property.Text("device_id", help: "identifies it in page 83h; serial= where there is none"),
        Property.Number("wwn", 0, help: "NAA identifier"), Property.Number("port_wwn", 0),
        Property.Number("port_index", 0, max: ushort.MaxValue),
        Property.Number("scsi_version", 5, max: byte.MaxValue, help: "5 is SPC-3"),
        Property.Size("min_io_size", 0), Property.Size("opt_io_size", 0),
        Property.Number("max_io_size", int.MaxValue, help: "bytes of one request"),
        Property.Missing("quirk_mode_page_vendor_specific_apple", "off"),
    ];

    public static readonly DeviceModel HardDisk = new("scsi-hd", BusKind.Scsi,
        [
            .. s_common, Property.Text("product", "QEMU HARDDISK"),
            Property.Bool("removable", false, "the guest may take it out"),
            Property.Bool("dpofua", false, "reads and writes may go past caches"),
            Property.Number("rotation_rate", 0, max: ushort.MaxValue, help: "1 for a disk without moving parts"),
            Property.Size("logical_block_size", 0), Property.Size("physical_block_size", 0),
            new("discard_granularity", PropertyKind.Size, AutomaticGranularity, "0: nothing is discarded"),
            Property.Number("max_unmap_size", 1 << 30, help: "bytes of one range that is discarded"),
        ], CreateHardDisk)
    {
        Category = DeviceCategory.Storage,
        Replaces = DefaultDevice.Cdrom,
        Description = "virtual SCSI disk",
    };

    public static readonly DeviceModel CdRom = new("scsi-cd", BusKind.Scsi,
        [
            .. s_common, Property.Text("product", "QEMU CD-ROM"),
            Property.Missing("quirk_mode_page_apple_vendor", "off"),
            Property.Missing("quirk_mode_sense_rom_use_dbd", "off"),
            Property.Missing("quirk_mode_page_truncated", "off"),
        ], CreateCdRom)
    {
        Category = DeviceCategory.Storage,
        Replaces = DefaultDevice.Cdrom,
        Description = "virtual SCSI CD-ROM",
    };

    static ScsiDevice CreateHardDisk(Properties values, DeviceSite site)
    {
        if (values.Text("drive") is not { } id)
            throw values.Error("drive property not set; give drive=ID of a -drive if=none,id=ID,… or -blockdev");
        BlockBackend backend = DiskProperties.Take(values, site, id);
        bool isRemovable = values.Bool("removable");
        if (!backend.HasMedium && !isRemovable)
            throw values.Error($"Device needs media, but drive is empty; give drive '{id}' file=, or removable=on");
        int logical = BlockSize("logical_block_size", 512), physical = BlockSize("physical_block_size", logical);
        if (physical < logical) throw values.Error("logical_block_size > physical_block_size not supported");
        ScsiOptions options = Common(values, backend) with
        {
            IsRemovable = isRemovable,
            HasDpoFua = values.Bool("dpofua"),
            RotationRate = (ushort)values.Number("rotation_rate"),
            BlockSize = logical,
            PhysicalBlockSize = physical,
            DiscardGranularity = Granularity(values, logical),
            MaxUnmap = values.Number("max_unmap_size"),
        };
        return Made(HardDisk, new ScsiDisk(backend, options), isRemovable, site);

        int BlockSize(string property, int automatic)
        {
            ulong size = values.Size(property);
            if (size == 0) return automatic;
            return size is >= 512 and <= 2 << 20 && BitOperations.IsPow2(size) ? (int)size
                : throw values.Error($"{property}={size} must be a power of 2 between 512 and 2097152");
        }
    }

    static uint Granularity(Properties values, int logical)
    {
        ulong size = values.Size("discard_granularity");
        if (size == uint.MaxValue) return (uint)Math.Max(logical, LeastGranularity);
        return size <= int.MaxValue && size % (uint)logical == 0 ? (uint)size
            : throw values.Error($"discard_granularity={size} must be a multiple of logical_block_size, {logical}");
    }

    static ScsiDevice CreateCdRom(Properties values, DeviceSite site)
    {
        BlockBackend backend = values.Text("drive") is { } id ? DiskProperties.Take(values, site, id)
            : new BlockBackend("", site.Board.Post);
        backend.IsReadOnly = true;
        ScsiOptions options = Common(values, backend) with { IsRemovable = true, BlockSize = ScsiCd.DiscSector };
        return Made(CdRom, new ScsiCd(backend, options), isRemovable: true, site);
    }

    static ScsiDevice Made(DeviceModel model, ScsiUnit unit, bool isRemovable, DeviceSite site)
    {
        unit.TrayMoved = open => site.Board.Raise(new DeviceTrayMovedEvent(unit, open));
        return new ScsiDevice(model.Name, unit, isRemovable);
    }

    static ScsiOptions Common(Properties values, BlockBackend backend) => new()
    {
        Vendor = values.Text("vendor")!,
        Product = values.Text("product")!,
        Version = values.Text("ver")!,
        Serial = values.Text("serial") ?? backend.Serial ?? "",
        DeviceId = values.Text("device_id") ?? "",
        Wwn = values.Number("wwn"),
        PortWwn = values.Number("port_wwn"),
        PortIndex = (ushort)values.Number("port_index"),
        ScsiVersion = (byte)values.Number("scsi_version"),
        MinIo = (uint)values.Size("min_io_size"),
        OptimalIo = (uint)values.Size("opt_io_size"),
        MaxIo = values.Number("max_io_size"),
        IsQueued = true,
    };
}
