using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>pxb and pxb-pcie: another root bus, for cards that are to be near one NUMA node, and for more of them.
/// Spec: QEMU's docs/pci_expander_bridge.txt.</summary>
public sealed class PciExpander : PciExpanderBridge
{
    static readonly PciIdentity Conventional = new(0x1B36, 0x0009, 0x060000, HasInterruptPin: false),
        Express = new(0x1B36, 0x000B, 0x060000, HasInterruptPin: false);

    public static readonly DeviceModel Model = new("pxb", BusKind.Pci, Options, CreateConventional)
    {
        Category = DeviceCategory.Bridge,
        Description = "PCI Expander Bridge",
        IsHotPluggable = false,
    };

    public static readonly DeviceModel ExpressModel = new("pxb-pcie", BusKind.PciExpress, Options, CreateExpress)
    {
        Category = DeviceCategory.Bridge,
        Description = "PCI Express Expander Bridge",
        IsHotPluggable = false,
    };

    const ulong NoNode = 128;

    readonly PciBridge? _bridge;                                   // of a conventional one: it has the slots

    PciExpander(PciIdentity identity, DeviceModel model, Properties properties, PciBus parent, string internalBus,
        string? slots) : base(identity, model.Name, parent, internalBus, (byte)properties.Number("bus_nr"),
            properties.Bool("bypass_iommu"))
    {
        NumaNode = properties.Number("numa_node") is not NoNode and var node ? (int)node : null;
        if (slots == null) return;
        _bridge = new RedHatPciBridge(Root, slots, (byte)Root.Number);
        Root.Plug(_bridge, 0);
    }

    static Property[] Options =>
    [
        Property.Number("bus_nr", 0, max: byte.MaxValue, help: "number of the bus, above those of the buses before it"),
        Property.Number("numa_node", NoNode, max: ushort.MaxValue, help: "the node that its cards are near"),
        Property.Bool("bypass_iommu", false, "cards behind it reach memory without the IOMMU"),
    ];

    protected override void ResetDevice() => _bridge?.Reset();

    protected override void ExchangeDevice(StateStream state) => _bridge?.Exchange(state.Group("bridge"));

    static PciExpander CreateConventional(Properties properties, DeviceSite site)
    {
        if (site.Bus.Kind == BusKind.PciExpress)
            throw properties.Error("pxb devices cannot reside on a PCIe bus; use pxb-pcie");
        PciBus parent = ParentOf(properties, site);
        string name = site.NameBus(BusKind.Pci);
        var expander = new PciExpander(Conventional, Model, properties, parent, "pxb-internal", name);
        var root = new QBus(expander.Root.Id, BusKind.Pci, expander.Root);
        var bridge = new QDevice(RedHatPciBridge.Model.Name, null, expander._bridge, []);
        bridge.Add(new QBus(name, BusKind.Pci, expander._bridge!.Secondary));
        root.Add(bridge);
        site.AddBus(root);
        return expander;
    }

    static PciExpander CreateExpress(Properties properties, DeviceSite site)
    {
        PciBus parent = ParentOf(properties, site);
        string name = site.NameBus(BusKind.PciExpress);
        var expander = new PciExpander(Express, ExpressModel, properties, parent, name, slots: null);
        site.AddBus(new QBus(name, BusKind.PciExpress, expander.Root));
        return expander;
    }

    /// <summary>The root bus that it is to sit on, where all is as it must be.</summary>
    static PciBus ParentOf(Properties properties, DeviceSite site)
    {
        ulong number = properties.Number("bus_nr"), node = properties.Number("numa_node");
        if (site.Bus.Wires is not PciBus { Bridge: null, Expander: null } parent)
            throw properties.Error("PXB devices can be attached only to root bus");
        if (!parent.TakesExpanders)
            throw properties.Error("the firmware of this machine knows one root bus alone; use -machine pc or q35");
        if (number == 0)
            throw properties.Error($"Bus 0 is already in use by {parent.Id}: give bus_nr=1 to 255");
        if (parent.Expanders.Any(other => other.Root.Number == (int)number))
            throw properties.Error($"Bus {number} is already in use");
        if (node != NoNode && node >= (ulong)site.Board.NumaNodes)
            throw properties.Error($"Illegal numa node {node}: "
                + (site.Board.NumaNodes == 0 ? "this machine has no NUMA nodes; leave numa_node= out"
                    : $"0 to {site.Board.NumaNodes - 1} are those of -numa"));
        return parent;
    }
}
