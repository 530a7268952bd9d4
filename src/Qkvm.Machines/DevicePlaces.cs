using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Core.Usb;

namespace Qkvm.Machines;

/// <summary>Where each device of trees sits, as a name that does not depend on the order of options: "pci.0/04.0",
/// "ide.1/unit0", "isa.0/mc146818rtc".</summary>
static class DevicePlaces
{
    public static IReadOnlyDictionary<IDevice, string> Of(params ReadOnlySpan<QBus> trees)
    {
        var places = new Dictionary<IDevice, string>(ReferenceEqualityComparer.Instance);
        foreach (QBus tree in trees) Add(tree, places);
        return places;
    }

    static void Add(QBus bus, Dictionary<IDevice, string> places)
    {
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (QDevice node in bus.Devices)
        {
            string place = $"{bus.Name}/{PlaceOn(node)}";
            // several of one driver, told apart by nothing but their order
            int before = seen.GetValueOrDefault(place);
            seen[place] = before + 1;
            if (node.Device is { } device) places[device] = before == 0 ? place : $"{place}#{before}";
            foreach (QBus child in node.Buses) Add(child, places);
        }
    }

    static string PlaceOn(QDevice node) => node switch
    {
        { Device: PciDevice function } => $"{function.DevFn >> 3:x2}.{function.DevFn & 7}",
        { Device: UsbDevice { Place: { } port } } => $"port{port.Path}",
        { Id: { } id } => id,
        _ => node.Driver,
    };
}
