using Qkvm.Core.Devices;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>A controller for what is too slow for another one, which has the ports: masterbus= and
/// firstport=.</summary>
static class UsbCompanion
{
    public static Property[] Own =>
    [
        Property.Text("masterbus", null, "the high speed controller's bus, whose ports it shares"),
        Property.Number("firstport", 0, max: 14, help: "the first of them"),
    ];

    /// <summary>Shares the master's ports. False where it has none and its ports are its own.</summary>
    public static bool Join(UsbPort[] ports, Properties properties, DeviceSite site)
    {
        if (properties.Text("masterbus") is not { } master) return false;
        if (site.Board.FindBus(master)?.Wires is not UsbBus bus)
            throw properties.Error($"USB bus '{master}' not found; a controller's is called as its id, with .0");
        if (bus.Companions is not { } companions)
            throw properties.Error($"Can't use USB bus '{master}' as masterbus, it doesn't support companion "
                + "controllers; ich9-usb-ehci1 does");
        companions.Adopt(ports, (int)properties.Number("firstport"), properties);
        site.OnLeave(() => companions.Dismiss(ports));
        return true;
    }
}
