using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>File system device, served by virtiofsd. Virtio 1.2, section 5.11.</summary>
/// <remarks>The daemon knows which files the guest holds: one that follows another starts anew, after a reset of the
/// device. Deviation: no DAX window, as in QEMU.</remarks>
public sealed class VhostUserFs : VhostUserDevice
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("vhost-user-fs-pci", "a directory of the host",
        DeviceCategory.Storage, 0x018000,
        [
            Chardev, Property.Text("tag", help: "by which the guest mounts it: mount -t virtiofs TAG DIRECTORY"),
            Property.Number("num-request-queues", 1, max: ushort.MaxValue),
            Property.Number("queue-size", 128, max: ushort.MaxValue),
        ],
        device => device.QueueSizes.Count + 1, FromProperties, isModern: true, isMigratable: false);

    // struct virtio_fs_config, 5.11.4
    const int TagLength = 36, RequestQueues = 36, ConfigLength = 40;
    const int FirstRequestQueue = 1;                               // after that of high priority, 5.11.2

    VhostUserFs(string name, IVhostUser peer, byte[] tag, int[] sizes, IoLoop loop)
        : base(name, 26, ConfigLength, peer, sizes, sizes.Length, loop)
    {
        tag.CopyTo(ConfigSpace, 0);
        BinaryPrimitives.WriteInt32LittleEndian(ConfigSpace.AsSpan(RequestQueues), sizes.Length - FirstRequestQueue);
    }

    protected override ulong KnownFeatures => 0;

    static VhostUserFs FromProperties(string name, Properties values, DeviceSite site)
    {
        string chardev = ChardevOf(values);
        string tag = values.Text("tag") ?? throw values.Error("missing tag property; give tag=, by which the guest "
            + "mounts it");
        byte[] label = Encoding.UTF8.GetBytes(tag);
        if (label.Length == 0) throw values.Error("tag property cannot be empty");
        if (label.Length > TagLength) throw values.Error($"tag property must be {TagLength} bytes or less");
        ulong queues = values.Number("num-request-queues"), size = values.Number("queue-size");
        if (queues == 0) throw values.Error("num-request-queues property must be larger than 0");
        if (queues + FirstRequestQueue > MostQueues)
            throw values.Error($"num-request-queues={queues}: a device has {MostQueues - FirstRequestQueue} at most");
        if (!BitOperations.IsPow2(size)) throw values.Error("queue-size property must be a power of 2");
        if (size > LargestQueue) throw values.Error($"queue-size property must be {LargestQueue} or smaller");
        var sizes = new int[queues + FirstRequestQueue];
        Array.Fill(sizes, (int)size);
        IVhostUser peer = PeerOf(chardev, values, site, new(sizes.Length, "the guest's mount does not answer; start "
            + "the daemon and the guest anew") { Least = FirstRequestQueue + 1 });
        return Closing(new VhostUserFs(name, peer, label, sizes, site.Loop(null)) { Post = site.Board.Post }, site);
    }
}
