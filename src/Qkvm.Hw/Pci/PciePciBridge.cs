using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>pcie-pci-bridge: conventional PCI slots behind PCI Express. Spec: PCI Express to PCI/PCI-X Bridge 1.0; PCI
/// Express Base 3.0, section 7.8.</summary>
/// <remarks>Deviations: no standard hot-plug controller; it never interrupts.</remarks>
public sealed class PciePciBridge : PciBridge
{
    public static readonly DeviceModel Model = new("pcie-pci-bridge", BusKind.PciExpress,
        [Property.OnOffAuto("msi", "the bridge has Message Signalled Interrupts")], Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "PCIe to PCI bridge",
    };

    const int ExpressAt = 0x48, PowerAt = 0x84, MsiAt = 0x8C;

    PciePciBridge(PciBus parent, string bus, bool hasMsi)
        : base(new PciIdentity(0x1B36, 0x000E, 0x060400), Model.Name, parent, bus, isExpress: true)
    {
        _ = new PciExpress(Config, ExpressKind.PciBridge, ExpressLink.Slowest, ExpressAt);
        PciExpress.AddPowerManagement(Config, PowerAt, writable: 0);
        if (hasMsi) Msi = new Msi(this, 1, MsiAt, isMaskable: true);
        PciExpress.AddErrorReporting(Config, isPort: false);
    }

    protected override bool LeadsToExpress => false;

    static PciePciBridge Create(Properties properties, DeviceSite site)
    {
        string name = site.NameBus(BusKind.Pci, ending: "");
        var bridge = new PciePciBridge((PciBus)site.Bus.Wires!, name, properties.OnOffAuto("msi") ?? true);
        site.AddBus(new QBus(name, BusKind.Pci, bridge.Secondary));
        return bridge;
    }
}
