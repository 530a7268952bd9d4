using System.Numerics;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.Virtio;
using Features = Qkvm.Hw.Virtio.VirtioNetFeatures;

namespace Qkvm.Hw.Virtio;

/// <summary>The card as users name it, with QEMU's properties.</summary>
public sealed partial class VirtioNet
{
    const int SmallestQueue = 256, LargestQueue = 1024;

    public static readonly DeviceModel[] Models =
        VirtioPciModels.Family("virtio-net-pci", "virtio network card", DeviceCategory.Network,
        0x020000,
        [
            Property.Netdev(), Property.Mac(), Property.Number("rx_queue_size", SmallestQueue),
            Property.Number("tx_queue_size", SmallestQueue),
            .. Features.Switches.Select(feature => Property.Bool(feature.Property, true)),
            Property.Bool("mq", false, "as many pairs of queues as the netdev has"),
            Property.Number("host_mtu", 0, max: ushort.MaxValue),
            Property.Automatic("speed", max: int.MaxValue, help: "Mbit/s that the guest is told"),
            Property.Enum("duplex", null, ["half", "full"]),
            Property.Enum("tx", "bh", ["bh"], "frames are sent at once"),
            Property.Missing("guest_ufo", "off"), Property.Missing("host_ufo", "off"),
            Property.Bool("rss", false, "the guest spreads received frames over its queues by their hash"),
            Property.Bool("hash", false, "the guest is told the hash of received frames"),
            Property.Missing("failover", "off"),
        ],
        device => device.QueueSizes.Count + 1, FromProperties);

    public override string InstalledRom => "efi-virtio.rom";

    static VirtioNet FromProperties(string name, Properties values, DeviceSite site)
    {
        byte[] mac = values.Text("mac") is { } text ? MacAddress.Parse(text, values.Owner) : MacAddress.Default;
        int receive = QueueSize("rx_queue_size"), transmit = QueueSize("tx_queue_size");
        uint? speed = (uint?)values.NumberOrAuto("speed");
        bool? isFull = values.Text("duplex") switch { "full" => true, "half" => false, _ => null };
        NetBackend? backend = values.Text("netdev") is { } id ? site.Netdev(id) : null;
        if (backend?.Vhost != null && !VhostRegion.IsShared(site.Board.Memory.View))
            throw values.Error($"netdev={backend.Id}: the peer of vhost-user must be able to map the guest's memory: "
                + VhostRegion.Remedy);
        ulong features = 0;
        foreach (var (property, bit) in Features.Switches)
            if (values.Bool(property)) features |= bit;
        if (values.Bool("rss")) features |= Features.Rss;
        if (values.Bool("hash")) features |= Features.HashReport;
        int pairs = values.Bool("mq") || values.Bool("rss") ? backend?.MaxQueues ?? 1 : 1;
        var card = new VirtioNet(name, backend, mac, new VirtioNetOptions(receive, transmit, features, pairs,
            (ushort)values.Number("host_mtu"), speed ?? (isFull != null ? uint.MaxValue : null), isFull),
            site.Loop(null), site.Board.Post, site.Board.IsGuestAsleep)
        {
            FilterChanged = () => site.Board.Raise(new ReceiveFilterChangedEvent(site.Id,
                $"{site.ObjectPath}/virtio-backend")),
        };
        site.OnLeave(card.Close);
        return card;

        int QueueSize(string property)
        {
            ulong size = values.Number(property);
            return size is >= SmallestQueue and <= LargestQueue && BitOperations.IsPow2(size) ? (int)size
                : throw new ConfigurationException($"{values.Owner}: {property}={size} must be a power of 2 between " +
                $"{SmallestQueue} and {LargestQueue}");
        }
    }
}
