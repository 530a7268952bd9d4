using Qkvm.Core.Devices;

namespace Qkvm.Hw.Net;

/// <summary>The card as users name it, with QEMU's properties.</summary>
public sealed partial class Rtl8139
{
    public static readonly DeviceModel Model = new("rtl8139", BusKind.Pci,
        [Property.Netdev(), Property.Mac(), Property.Missing("failover_pair_id"), NetCards.Rom("rtl8139")],
        static (values, site) =>
        {
            var card = new Rtl8139(NetCards.Site(values, site));
            site.OnLeave(card.Close);
            return card;
        })
    {
        Category = DeviceCategory.Network,
        Description = "RealTek Fast Ethernet, RTL8139C+",
    };
}
