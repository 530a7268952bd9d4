using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>pcie-root-port: a port of the root complex that no maker built, with Red Hat's identity.</summary>
public sealed class PcieRootPort : PciePort
{
    static readonly string[] s_speeds = ["2_5", "5", "8", "16"], s_widths = ["1", "2", "4", "8", "12", "16", "32"];

    public static readonly DeviceModel Model = new("pcie-root-port", BusKind.PciExpress,
        OptionsAnd([
            .. BridgeReserve.Options,
            Property.Number("bus-reserve", BridgeReserve.NoBuses, max: uint.MaxValue,
                help: "buses that firmware keeps free behind the port"),
            Property.Enum("x-speed", "16", s_speeds, "GT/s of its link"),
            Property.Enum("x-width", "32", s_widths, "lanes of its link"),
            Property.Bool("disable-acs", false, "no Access Control Services"),
        ]), Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "PCI Express Root Port",
        IsHotPluggable = false,
    };

    static readonly PciePortChip s_chip = new(Model.Name, new PciIdentity(0x1B36, 0x000C, 0x060400),
        ExpressKind.RootPort, ExpressLink.Fastest, SubsystemAt: 0x40, InterruptAt: 0x48, ExpressAt: 0x54)
        { SubsystemVendor = 0x1B36 };

    /// <param name="eject">The guest has let go of what is in the slot.</param>
    public PcieRootPort(PciBus parent, string bus, PciePortOptions options, Action<PciDevice> eject,
        ExpressLink? link = null, BridgeReserve? reserve = null)
        : base(s_chip with { Link = link ?? s_chip.Link }, parent, bus, options, eject) => reserve?.Define(Config);

    static PciePort Create(Properties properties, DeviceSite site) => Create(properties, site,
        (parent, bus, options) => new PcieRootPort(parent, bus,
            options with { HasAccessControl = !properties.Bool("disable-acs") }, site.Board.Eject,
            new ExpressLink(Array.IndexOf(s_speeds, properties.Text("x-speed")) + 1,
                int.Parse(properties.Text("x-width")!, System.Globalization.CultureInfo.InvariantCulture)),
            BridgeReserve.Of(properties)));
}
