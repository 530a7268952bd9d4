using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>x3130-upstream: the port of a switch that is towards the root complex; on its bus are the downstream ports.
/// Spec: Texas Instruments XIO3130, SLLS693, section 4.2; PCI Express Base 3.0, section 7.8.</summary>
public sealed class X3130Upstream : PciBridge
{
    public static readonly DeviceModel Model = new("x3130-upstream", BusKind.PciExpress,
        [Property.Number("port", 0, max: byte.MaxValue, help: "number of the port")], Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "TI X3130 Upstream Port of PCI Express Switch",
        IsHotPluggable = false,
    };

    const byte SubsystemCapability = 0x0D;
    const int SubsystemAt = 0x80, MsiAt = 0x70, ExpressAt = 0x90;

    X3130Upstream(PciBus parent, string bus, byte port)
        : base(new PciIdentity(0x104C, 0x8232, 0x060400, Revision: 2, HasInterruptPin: false), Model.Name, parent, bus,
            isExpress: true)
    {
        Msi = new Msi(this, 1, MsiAt);
        Config.AddCapability(SubsystemCapability, 8, SubsystemAt);
        _ = new PciExpress(Config, ExpressKind.UpstreamPort, ExpressLink.Slowest, ExpressAt, port);
        PciExpress.AddErrorReporting(Config);
    }

    static X3130Upstream Create(Properties properties, DeviceSite site)
    {
        string name = site.NameBus(BusKind.PciExpress, ending: "");
        var port = new X3130Upstream((PciBus)site.Bus.Wires!, name, (byte)properties.Number("port"));
        site.AddBus(new QBus(name, BusKind.PciExpress, port.Secondary));
        return port;
    }
}
