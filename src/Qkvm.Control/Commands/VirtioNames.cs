namespace Qkvm.Control.Commands;

/// <summary>What the bits of virtio devices are called, as `info virtio-status` shows them. Virtio 1.2, chapters 2.1, 5
/// and 6.</summary>
static class VirtioNames
{
    public static readonly (int Bit, string Name)[] Status =
    [
        (0, "VIRTIO_CONFIG_S_ACKNOWLEDGE: Valid virtio device found"),
        (1, "VIRTIO_CONFIG_S_DRIVER: Guest OS compatible with device"),
        (3, "VIRTIO_CONFIG_S_FEATURES_OK: Feature negotiation complete"),
        (2, "VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready"),
        (6, "VIRTIO_CONFIG_S_NEEDS_RESET: Irrecoverable error, device needs reset"),
        (7, "VIRTIO_CONFIG_S_FAILED: Error in guest, device failed"),
    ];

    static readonly (int Bit, string Name)[] s_rings =
    [
        (29, "VIRTIO_RING_F_EVENT_IDX: Used & avail. event fields enabled"),
        (28, "VIRTIO_RING_F_INDIRECT_DESC: Indirect descriptors supported"),
        (38, "VIRTIO_F_NOTIFICATION_DATA: Device supports extra notification data"),
        (37, "VIRTIO_F_SR_IOV: Device supports single root I/O virtualization"),
        (36, "VIRTIO_F_ORDER_PLATFORM: Memory accesses ordered by platform"),
        (35, "VIRTIO_F_IN_ORDER: Device uses buffers in same order as made available by driver"),
        (34, "VIRTIO_F_RING_PACKED: Device supports packed VQ layout"),
        (33, "VIRTIO_F_IOMMU_PLATFORM: Device can be used on IOMMU platform"),
        (32, "VIRTIO_F_VERSION_1: Device compliant for v1 spec (legacy)"),
        (27, "VIRTIO_F_ANY_LAYOUT: Device accepts arbitrary desc. layouts"),
        (24, "VIRTIO_F_NOTIFY_ON_EMPTY: Notify when device runs out of avail. descs. on VQ"),
    ];

    static readonly (int Bit, string Name)[] s_block =
    [
        (11, "VIRTIO_BLK_F_CONFIG_WCE: Cache writeback and writethrough modes supported"),
        (9, "VIRTIO_BLK_F_FLUSH: Flush command supported"),
        (14, "VIRTIO_BLK_F_WRITE_ZEROES: Write zeroes command supported"),
        (13, "VIRTIO_BLK_F_DISCARD: Discard command supported"),
        (12, "VIRTIO_BLK_F_MQ: Multiqueue supported"),
        (10, "VIRTIO_BLK_F_TOPOLOGY: Topology information available"),
        (6, "VIRTIO_BLK_F_BLK_SIZE: Block size of disk available"), (5, "VIRTIO_BLK_F_RO: Device is read-only"),
        (4, "VIRTIO_BLK_F_GEOMETRY: Legacy geometry available"),
        (2, "VIRTIO_BLK_F_SEG_MAX: Max segments in a request is seg_max"),
        (1, "VIRTIO_BLK_F_SIZE_MAX: Max segment size is size_max"),
    ];

    static readonly (int Bit, string Name)[] s_net =
    [
        (23, "VIRTIO_NET_F_CTRL_MAC_ADDR: MAC address set through control channel"),
        (21, "VIRTIO_NET_F_GUEST_ANNOUNCE: Driver sending gratuitous packets supported"),
        (22, "VIRTIO_NET_F_MQ: Multiqueue with automatic receive steering supported"),
        (20, "VIRTIO_NET_F_CTRL_RX_EXTRA: Extra RX mode control supported"),
        (19, "VIRTIO_NET_F_CTRL_VLAN: Control channel VLAN filtering supported"),
        (18, "VIRTIO_NET_F_CTRL_RX: Control channel RX mode supported"),
        (17, "VIRTIO_NET_F_CTRL_VQ: Control channel available"),
        (16, "VIRTIO_NET_F_STATUS: Configuration status field available"),
        (15, "VIRTIO_NET_F_MRG_RXBUF: Driver can merge receive buffers"),
        (14, "VIRTIO_NET_F_HOST_UFO: Device can receive UFO"),
        (13, "VIRTIO_NET_F_HOST_ECN: Device can receive TSO with ECN"),
        (12, "VIRTIO_NET_F_HOST_TSO6: Device can receive TSOv6"),
        (11, "VIRTIO_NET_F_HOST_TSO4: Device can receive TSOv4"),
        (10, "VIRTIO_NET_F_GUEST_UFO: Driver can receive UFO"),
        (9, "VIRTIO_NET_F_GUEST_ECN: Driver can receive TSO with ECN"),
        (8, "VIRTIO_NET_F_GUEST_TSO6: Driver can receive TSOv6"),
        (7, "VIRTIO_NET_F_GUEST_TSO4: Driver can receive TSOv4"),
        (5, "VIRTIO_NET_F_MAC: Device has given MAC address"),
        (2, "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS: Control channel offloading reconfig. supported"),
        (1, "VIRTIO_NET_F_GUEST_CSUM: Driver handling packets with partial checksum supported"),
        (0, "VIRTIO_NET_F_CSUM: Device handling packets with partial checksum supported"),
        (3, "VIRTIO_NET_F_MTU: Device max MTU reporting supported"),
    ];

    static readonly (int Bit, string Name)[] s_balloon =
    [
        (0, "VIRTIO_BALLOON_F_MUST_TELL_HOST: Tell host before reclaiming pages"),
        (1, "VIRTIO_BALLOON_F_STATS_VQ: Guest memory stats VQ available"),
        (2, "VIRTIO_BALLOON_F_DEFLATE_ON_OOM: Deflate balloon when guest OOM"),
        (3, "VIRTIO_BALLOON_F_FREE_PAGE_HINT: VQ reporting free pages enabled"),
        (4, "VIRTIO_BALLOON_F_PAGE_POISON: Guest page poisoning enabled"),
        (5, "VIRTIO_BALLOON_F_REPORTING: Page reporting VQ enabled"),
    ];

    /// <summary>Those that are set, in QEMU's order.</summary>
    public static IEnumerable<string> In(ulong bits, (int Bit, string Name)[] names) =>
        names.Where(n => (bits >> n.Bit & 1) != 0).Select(n => n.Name);

    /// <param name="device">Its number: 1 network, 2 block, 5 balloon.</param>
    /// <param name="unknown">Bits without a name here.</param>
    public static string[] Features(ulong bits, int device, out ulong unknown)
    {
        (int Bit, string Name)[] names =
            [.. s_rings, .. device switch { 1 => s_net, 2 => s_block, 5 => s_balloon, _ => [] }];
        unknown = names.Aggregate(bits, (left, n) => left & ~(1UL << n.Bit));
        return [.. In(bits, names)];
    }

    public static string Device(int number) => number switch
    {
        1 => "virtio-net", 2 => "virtio-blk", 3 => "virtio-serial", 4 => "virtio-rng", 5 => "virtio-balloon",
        8 => "virtio-scsi", 9 => "virtio-9p", 16 => "virtio-gpu", 18 => "virtio-input", 19 => "virtio-vsock",
        26 => "virtio-user-fs",
        _ => $"virtio-{number}",
    };
}
