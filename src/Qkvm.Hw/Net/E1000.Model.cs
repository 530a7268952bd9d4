using Qkvm.Core.Devices;

namespace Qkvm.Hw.Net;

/// <summary>The card as users name it, with QEMU's properties.</summary>
public sealed partial class E1000
{
    public static readonly DeviceModel Model = new("e1000", BusKind.Pci,
        [
            Property.Netdev(), Property.Mac(),
            Property.Bool("mitigation", true, "interrupts keep a distance"),
            Property.Bool("autonegotiation", true, "the link takes half a second to come"),
            Property.Bool("extra_mac_registers", true),
            Property.Bool("init-vet", true, "VET is 0x8100 after a reset"),
            Property.Bool("migrate_tso_props", true),
            Property.Missing("failover_pair_id"),
            NetCards.Rom("e1000"),
        ], FromProperties)
    {
        Category = DeviceCategory.Network,
        Description = "Intel Gigabit Ethernet, 82540EM",
        Aliases = ["e1000-82540em"],
    };

    static E1000 FromProperties(Properties values, DeviceSite site)
    {
        if (!values.Bool("migrate_tso_props"))
            throw values.Error("migrate_tso_props=off: a saved state has them always; leave it out");
        var card = new E1000(NetCards.Site(values, site), new E1000Options(values.Bool("mitigation"),
            values.Bool("autonegotiation"), values.Bool("extra_mac_registers"), values.Bool("init-vet")));
        site.OnLeave(card.Close);
        return card;
    }
}
