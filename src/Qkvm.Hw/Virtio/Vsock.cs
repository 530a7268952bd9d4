using Qkvm.Core.Devices;

namespace Qkvm.Hw.Virtio;

/// <summary>What all socket devices share. Virtio 1.2, section 5.10.</summary>
static class Vsock
{
    public const ushort DeviceId = 19;
    public const int ConfigLength = 8, Vectors = 3;
    public const uint ClassCode = 0x078000;

    /// <summary>Of the queues those that move data: receiving and transmitting, not events.</summary>
    public const int Served = 2;

    const ulong SeqPacket = 1 << 1;                                // 5.10.3

    public static readonly int[] QueueSizes = [128, 128, 128];

    public static Property SeqPacketOption => Property.OnOffAuto("seqpacket", "sockets with message boundaries; auto: "
        + "where the peer has them");

    /// <param name="possible">Of the peer.</param>
    public static ulong FeaturesOf(Properties values, ulong possible) => values.OnOffAuto("seqpacket") switch
    {
        false => 0,
        true when (possible & SeqPacket) == 0 => throw values.Error("vhost-vsock: backend doesn't support "
            + "VIRTIO_VSOCK_F_SEQPACKET; leave seqpacket=on out"),
        _ => SeqPacket,
    };
}
