using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Hw.Scsi;

namespace Qkvm.Hw.Virtio;

/// <summary>As users name it.</summary>
public sealed partial class VirtioScsi
{
    const int MostQueues = 1021, MostQueueSize = 1024;

    public static readonly DeviceModel[] Models =
        VirtioPciModels.Family("virtio-scsi-pci", "virtio SCSI host bus adapter", DeviceCategory.Storage, 0x010000,
        [
            Property.Object("iothread", "an -object iothread that moves the data"),
            Property.Automatic("num_queues", help: "request queues"),
            Property.Number("virtqueue_size", 256), Property.Bool("seg_max_adjust", true),
            Property.Number("max_sectors", 65535, max: uint.MaxValue, help: "of 512 bytes, of one request"),
            Property.Number("cmd_per_lun", 128, max: uint.MaxValue),
            Property.Bool("hotplug", true, "tells the guest of units that come and go"),
            Property.Bool("param_change", true, "tells the guest of units that change their size"),
        ],
        static device => device.QueueSizes.Count + 1, FromProperties);

    static VirtioScsi FromProperties(string name, Properties values, DeviceSite site)
    {
        ulong queues = values.NumberOrAuto("num_queues") is { } number and not uint.MaxValue ? number : 1;
        ulong size = values.Number("virtqueue_size");
        if (queues is 0 or > MostQueues)
            throw values.Error($"Invalid number of queues (= {queues}), must be a positive integer less than "
                + $"{MostQueues + 1}.");
        if (size <= 2) throw values.Error($"invalid virtqueue_size property (= {size}), must be > 2");
        if (size > MostQueueSize || !System.Numerics.BitOperations.IsPow2(size))
            throw values.Error($"virtqueue_size={size} must be a power of 2, at most {MostQueueSize}");
        var device = new VirtioScsi(name, new VirtioScsiOptions
        {
            Queues = (int)queues,
            QueueSize = (int)size,
            SegMax = values.Bool("seg_max_adjust") ? (uint)size - 2 : 128 - 2,
            MaxSectors = (uint)values.Number("max_sectors"),
            CommandsPerUnit = (uint)values.Number("cmd_per_lun"),
            HotPlug = values.Bool("hotplug"),
            ParameterChange = values.Bool("param_change"),
        }, site.Loop(values.Text("iothread")), site.Board.Post, site.Board.IsGuestAsleep);
        site.AddBus(new QBus(site.NameBus(BusKind.Scsi, ".0"), BusKind.Scsi, device.Bus));
        return device;
    }
}
