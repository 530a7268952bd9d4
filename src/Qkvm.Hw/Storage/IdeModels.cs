using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Hw.Storage;

/// <summary>The drives that users plug into an IDE bus.</summary>
public static class IdeModels
{
    const int SerialLength = 20, ModelLength = 40, VersionLength = 8;

    static readonly Property[] Common =
    [
        .. DiskProperties.All, Property.Text("model"), Property.Text("ver"),
    ];

    public static readonly DeviceModel HardDisk = new("ide-hd", BusKind.Ide,
        [
            .. Common, Property.Number("wwn", 0),
            Property.Number("rotation_rate", 0, max: ushort.MaxValue),
            Property.Size("logical_block_size", 0), Property.Size("physical_block_size", 0),
        ], CreateHardDisk)
    {
        Category = DeviceCategory.Storage,
        Replaces = DefaultDevice.Cdrom,
        Description = "virtual IDE disk",
    };

    public static readonly DeviceModel CdRom = new("ide-cd", BusKind.Ide, Common, CreateCdRom)
    {
        Category = DeviceCategory.Storage,
        Replaces = DefaultDevice.Cdrom,
        Description = "virtual IDE CD-ROM",
    };

    /// <summary>QM00001 for the first place of the first bus, as QEMU counts.</summary>
    static string DefaultSerial(IIdeBus bus, int unit) => $"QM{bus.FirstPlace + unit + 1:00000}";

    static IDevice CreateHardDisk(Properties values, DeviceSite site)
    {
        if (values.Text("drive") is not { } id)
            throw new ConfigurationException($"{values.Owner}: drive property not set; give drive=ID of a -drive " +
                "if=none,id=ID,… or -blockdev");
        var bus = (IIdeBus)site.Bus.Wires!;
        int unit = bus.UnitFor(values);
        BlockBackend backend = DiskProperties.Take(values, site, id);
        if (!backend.HasMedium)
            throw new ConfigurationException($"{values.Owner}: device needs media, but drive '{id}' is empty; give " +
                "it file=");
        if (backend.IsReadOnly)
            throw new ConfigurationException($"{values.Owner}: drive '{id}' is read-only, which an IDE disk cannot " +
                "be; remove readonly=on or use virtio-blk-pci");
        if (values.Size("logical_block_size") is not (0 or 512))
            throw new ConfigurationException($"{values.Owner}: logical_block_size must be 512 for IDE");
        ulong physical = values.Size("physical_block_size");
        if (physical != 0 && (physical is < 512 or > 2 << 20 || !System.Numerics.BitOperations.IsPow2(physical)))
            throw new ConfigurationException($"{values.Owner}: physical_block_size={physical} must be a power of 2 " +
                "between 512 and 2097152");
        var options =
            new AtaOptions(Serial(values, backend, bus, unit), Text(values, "model", "QEMU HARDDISK", ModelLength),
            Text(values, "ver", "2.5+", VersionLength), backend.WriteCache, values.Number("wwn"),
            (ushort)values.Number("rotation_rate"), physical == 0 ? 512 : (int)physical);
        return new AtaDrive(HardDisk.Name, backend, options) { Log = site.Board.Memory.Log };
    }

    static IDevice CreateCdRom(Properties values, DeviceSite site)
    {
        var bus = (IIdeBus)site.Bus.Wires!;
        int unit = bus.UnitFor(values);
        BlockBackend backend = values.Text("drive") is { } id ? DiskProperties.Take(values, site, id)
            : new BlockBackend("", site.Board.Post) { IsReadOnly = true };
        var drive = new AtapiDrive(CdRom.Name, backend, Serial(values, backend, bus, unit),
            Text(values, "model", "QEMU DVD-ROM", ModelLength), Text(values, "ver", "2.5+", VersionLength))
            { Log = site.Board.Memory.Log };
        drive.Disc.TrayMoved = open => site.Board.Raise(new DeviceTrayMovedEvent(drive.Disc, open));
        return drive;
    }

    static string Serial(Properties values, BlockBackend backend, IIdeBus bus, int unit) =>
        Text(values, "serial", backend.Serial ?? DefaultSerial(bus, unit), SerialLength);

    /// <summary>As much of it as there is room for, as with QEMU.</summary>
    static string Text(Properties values, string name, string automatic, int length)
    {
        string text = values.Text(name) ?? automatic;
        return text[..Math.Min(text.Length, length)];
    }
}
