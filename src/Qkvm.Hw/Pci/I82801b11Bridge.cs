using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>i82801b11-bridge: the ICH9's bridge from DMI to PCI. Spec: Intel I/O Controller Hub 9, order 316972,
/// section 12.1.</summary>
public sealed class I82801b11Bridge : PciBridge
{
    public static readonly DeviceModel Model = new("i82801b11-bridge", BusKind.Pci, [], Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "i82801b11 (ICH9) DMI-to-PCI bridge",
        IsHotPluggable = false,
    };

    const byte SubsystemCapability = 0x0D;
    const int SubsystemAt = 0x50;

    I82801b11Bridge(PciBus parent, string bus)
        : base(new PciIdentity(0x8086, 0x244E, 0x060401, Revision: 0x92, HasInterruptPin: false), Model.Name, parent,
            bus)
    {
        Config.AddCapability(SubsystemCapability, 8, SubsystemAt);
    }

    static I82801b11Bridge Create(Properties properties, DeviceSite site)
    {
        string name = site.NameBus(BusKind.Pci, ending: "");
        var bridge = new I82801b11Bridge((PciBus)site.Bus.Wires!, name);
        site.AddBus(new QBus(name, BusKind.Pci, bridge.Secondary));
        return bridge;
    }
}
