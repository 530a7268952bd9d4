using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>Block device, served by another process, such as qemu-storage-daemon or SPDK. Virtio 1.2, section
/// 5.2.</summary>
/// <remarks>The peer has the configuration; the driver's cache mode goes to it. Requests that were in flight when a
/// peer went are given to the next one again. Deviation: without INFLIGHT_SHMFD: which these are is what was seen of
/// the rings at kicks and interrupts.</remarks>
public sealed class VhostUserBlk : VhostUserDevice
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("vhost-user-blk-pci", "a disk of another "
        + "process", DeviceCategory.Storage, 0x010000,
        [
            Chardev, Property.Automatic("num-queues", 0, ushort.MaxValue), Property.Number("queue-size", 128),
            Property.Bool("config-wce", true), Property.Bool("discard", true), Property.Bool("write-zeroes", true),
            Property.Number("class", 0),
        ],
        device => device.QueueSizes.Count + 1, FromProperties, isMigratable: false, bareName: "vhost-user-blk");

    // Feature bits, 5.2.3
    const ulong SizeMax = 1 << 1, SegMax = 1 << 2, Geometry = 1 << 4, ReadOnly = 1 << 5, BlkSize = 1 << 6,
        Flush = 1 << 9, Topology = 1 << 10, ConfigWce = 1 << 11, Mq = 1 << 12, Discard = 1 << 13,
        WriteZeroes = 1 << 14;

    // struct virtio_blk_config, 5.2.4
    const int Writeback = 32, NumQueues = 34, ConfigLength = 60;

    readonly IVhostUser _peer;

    VhostUserBlk(string name, IVhostUser peer, ulong features, int[] sizes, IoLoop loop)
        : base(name, 2, ConfigLength, peer, sizes, sizes.Length, loop)
    {
        (_peer, KnownFeatures) = (peer, features);
        peer.ConfigChanged += OnConfigChanged;
    }

    protected override ulong KnownFeatures { get; }

    public override void ReadConfig(int offset, Span<byte> data)
    {
        Span<byte> config = ConfigSpace;
        _peer.Config.CopyTo(config);
        BinaryPrimitives.WriteUInt16LittleEndian(config[NumQueues..], (ushort)QueueSizes.Count);
        base.ReadConfig(offset, data);
    }

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if ((Control.Features & ConfigWce) == 0 || offset > Writeback || offset + data.Length <= Writeback) return;
        var mode = (byte)(data[Writeback - offset] & 1);
        if (_peer.Config[Writeback] != mode) _peer.SetConfig(Writeback, [mode]);
    }

    public override void Close()
    {
        _peer.ConfigChanged -= OnConfigChanged;
        base.Close();
    }

    void OnConfigChanged() => Post(Control.ConfigChanged);

    static VhostUserBlk FromProperties(string name, Properties values, DeviceSite site)
    {
        string chardev = ChardevOf(values, "chardev is mandatory");
        ulong queues = values.NumberOrAuto("num-queues") ?? 1, size = values.Number("queue-size");
        if (queues is 0 or > MostQueues)
            throw values.Error($"invalid number of IO queues; num-queues={queues} must be 1 to {MostQueues}");
        if (size == 0) throw values.Error("queue size must be non-zero");
        if (size > LargestQueue || !System.Numerics.BitOperations.IsPow2(size))
            throw values.Error($"queue-size={size} must be a power of 2 between 1 and {LargestQueue}");
        var sizes = new int[queues];
        Array.Fill(sizes, (int)size);
        ulong features = SizeMax | SegMax | Geometry | ReadOnly | BlkSize | Flush | Topology
            | (queues > 1 ? Mq : 0) | (values.Bool("config-wce") ? ConfigWce : 0)
            | (values.Bool("discard") ? Discard : 0) | (values.Bool("write-zeroes") ? WriteZeroes : 0);
        IVhostUser peer = PeerOf(chardev, values, site, new(sizes.Length, "the disk does not answer until one comes "
            + "again") { ConfigSize = ConfigLength, Resumes = true });
        return Closing(new VhostUserBlk(name, peer, features, sizes, site.Loop(null)) { Post = site.Board.Post }, site);
    }
}
