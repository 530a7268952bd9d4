using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Usb;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Usb;

/// <summary>As users name it, and its descriptors.</summary>
public sealed partial class UsbStorage
{
    public static readonly DeviceModel Model = new("usb-storage", BusKind.Usb,
        [
            .. DiskProperties.All, Property.Bool("removable", false, "the guest may take it out"),
            Property.Size("logical_block_size", 512), Property.Size("physical_block_size", 512),
            Property.Missing("commandlog", "off"),
            Property.Automatic("bootindex", max: int.MaxValue, help: "place in the boot order, 0 first"),
        ], Create) { Category = DeviceCategory.Storage, Description = "a USB stick" };

    static readonly UsbDescription s_description = new(0x46F4, 0x0001, 0x0000, "QEMU", "QEMU USB HARDDRIVE", "1",
        "Full speed config (usb 1.1)", "High speed config (usb 2.0)", "Super speed config (usb 3.0)")
    {
        Title = "QEMU USB MSD",
        Full = Layout(0x0200, 8, 64, text: 4), High = Layout(0x0200, 64, 512, text: 5),
        Super = Layout(0x0300, 9, 1024, text: 6, burst: 15),
    };

    /// <summary>Sections 4.3 and 4.4: one interface, SCSI transparent command set, bulk-only.</summary>
    static UsbLayout Layout(ushort version, byte maxPacket0, ushort maxPacket, byte text, byte burst = 0) =>
        new(version, maxPacket0, new UsbConfiguration(1, UsbConfiguration.AlwaysSet | UsbConfiguration.SelfPowered, 0,
            new UsbInterface(0, Class: 0x08, Subclass: 0x06, Protocol: 0x50,
                new UsbEndpoint(InEndpoint, UsbTransfer.Bulk, maxPacket) { MaxBurst = burst },
                new UsbEndpoint(OutEndpoint, UsbTransfer.Bulk, maxPacket) { MaxBurst = burst })) { Text = text });

    static UsbStorage Create(Properties values, DeviceSite site)
    {
        if (values.Text("drive") is not { } id)
            throw values.Error("drive property not set; give drive=ID of a -drive if=none,id=ID,… or -blockdev");
        ulong logical = values.Size("logical_block_size"), physical = values.Size("physical_block_size");
        foreach ((string name, ulong size) in (ReadOnlySpan<(string, ulong)>)[("logical", logical),
            ("physical", physical)])
            if (size is < 512 or > 32768 || !BitOperations.IsPow2(size))
                throw values.Error($"{name}_block_size={size} must be a power of 2 between 512 and 32768");
        if (physical < logical) throw values.Error("logical_block_size must not be larger than physical_block_size");
        BlockBackend backend = DiskProperties.Take(values, site, id);
        if (!backend.HasMedium)
            throw values.Error($"Device needs media, but drive '{id}' is empty; give it file=");
        return new UsbStorage(Model.Name, values, new ScsiDisk(backend, new ScsiOptions
        {
            HasDpoFua = true,
            DiscardGranularity = 4096, MaxUnmap = 1 << 30, MaxIo = int.MaxValue,
            Serial = values.Text("serial") ?? backend.Serial ?? "",
            IsRemovable = values.Bool("removable"),
            BlockSize = (int)logical,
            PhysicalBlockSize = (int)physical,
        }));
    }
}
