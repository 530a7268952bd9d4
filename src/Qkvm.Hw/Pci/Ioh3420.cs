using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>ioh3420: a root port of Intel's 7500 chipset. Spec: Intel 7500 Chipset, order 322827, section
/// 21.12.</summary>
public sealed class Ioh3420 : PciePort
{
    public static readonly DeviceModel Model = new("ioh3420", BusKind.PciExpress,
        OptionsAnd(Property.Bool("disable-acs", false, "no Access Control Services; it has none")), Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "Intel IOH device id 3420 PCIE Root Port",
        IsHotPluggable = false,
    };

    static readonly PciePortChip s_chip = new(Model.Name, new PciIdentity(0x8086, 0x3420, 0x060400, Revision: 2),
        ExpressKind.RootPort, ExpressLink.Slowest, SubsystemAt: 0x40, InterruptAt: 0x60, ExpressAt: 0x90, Messages: 2)
        { SubsystemVendor = 0x8086 };

    Ioh3420(PciBus parent, string bus, PciePortOptions options, Action<PciDevice> eject)
        : base(s_chip, parent, bus, options, eject) { }

    static PciePort Create(Properties properties, DeviceSite site) => Create(properties, site,
        (parent, bus, options) => new Ioh3420(parent, bus, options, site.Board.Eject));
}
