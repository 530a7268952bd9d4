using Qkvm.Core.Devices;
using Qkvm.Core.Pci;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>As users name it.</summary>
public sealed partial class Xhci
{
    const uint UsbClass = 0x0C0330;

    public static readonly DeviceModel Model = new("qemu-xhci", BusKind.Pci, Own,
        static (values, site) => Create(Model!, new PciIdentity(0x1B36, 0x000D, UsbClass, 1), values, site))
        { Category = DeviceCategory.Controller, Description = "a USB 3 controller" };

    public static readonly DeviceModel Nec = new("nec-usb-xhci", BusKind.Pci, Own,
        static (values, site) => Create(Nec!, new PciIdentity(0x1033, 0x0194, UsbClass, 3), values, site))
        { Category = DeviceCategory.Controller, Description = "a USB 3 controller, NEC's uPD720200" };

    static Property[] Own =>
    [
        Property.Number("p2", 4, 1, 15, "USB 2 ports"), Property.Number("p3", 4, 1, 15, "USB 3 ports"),
        Property.Number("intrs", 16, 1, 16, "interrupters"), Property.Number("slots", 64, 1, 64, "device slots"),
        Property.OnOffAuto("msix"), Property.OnOffAuto("msi", "taken; messages are MSI-X's"),
        Property.Bool("streams", true, "taken; no device here has them"),
    ];

    /// <summary>The ports that users name, and those of hubs on them.</summary>
    internal UsbBus? UserBus { get; private set; }

    static Xhci Create(DeviceModel model, PciIdentity identity, Properties values, DeviceSite site)
    {
        var controller = new Xhci(model.Name, new XhciOptions(identity, (int)values.Number("p2"),
            (int)values.Number("p3"), (int)values.Number("intrs"), (int)values.Number("slots"),
            values.OnOffAuto("msix") ?? true), site.Clock);
        controller.UserBus = UsbBus.Of(site, controller._ports);
        return controller;
    }
}
