using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Net;

/// <summary>The card as users name it, with QEMU's properties.</summary>
public sealed partial class E1000e
{
    public static readonly DeviceModel Model = new("e1000e", BusKind.Pci,
        [
            Property.Netdev(), Property.Mac(), Property.Bool("init-vet", true, "VET is 0x8100 after a reset"),
            Property.Number("subsys_ven", 0x8086, max: ushort.MaxValue),
            Property.Number("subsys", 0, max: ushort.MaxValue),
            Property.Missing("disable_vnet_hdr", "0"), Property.Missing("failover_pair_id"), NetCards.Rom("e1000e"),
        ],
        static (values, site) =>
        {
            var card = new E1000e(NetCards.Site(values, site), new E1000eOptions((ushort)values.Number("subsys_ven"),
                (ushort)values.Number("subsys"), values.Bool("init-vet"),
                IsIntegrated: site.Bus.Kind == BusKind.PciExpress && site.Bus.Wires is PciBus { Bridge: null }));
            site.OnLeave(card.Close);
            return card;
        })
    {
        Category = DeviceCategory.Network,
        Description = "Intel Gigabit Ethernet, 82574L",
    };
}
