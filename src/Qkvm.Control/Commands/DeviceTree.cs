using Qkvm.Control.Hmp;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Core.Usb;

namespace Qkvm.Control.Commands;

static class DeviceTree
{
    public static readonly Command Command =
        new Command<Nothing, QBus>(null, null, (context, _) => context.Machine.Tree)
    {
        Human = new("info qtree", "", "show device tree", null,
            (monitor, tree) => Print(monitor, tree, 0, UsbDevices.Buses(tree))),
    };

    static void Print(IMonitor monitor, QBus bus, int depth, UsbBus[] usb)
    {
        string indent = new(' ', depth * 2);
        monitor.Write($"{indent}bus: {bus.Name}\n{indent}  type {bus.Kind.Name}\n");
        foreach (QDevice device in bus.Devices)
        {
            monitor.Write($"{indent}  dev: {device.Driver}, id \"{device.Id}\"\n");
            foreach (OptionPair property in device.Properties)
                monitor.Write($"{indent}    {property.Name} = {property.Value}\n");
            IEnumerable<string> places = device.Device switch
            {
                PciDevice { Bus: not null } function => QueryPci.Places(function),
                UsbDevice { Place: not null } plugged => [UsbDevices.Place(plugged, Array.IndexOf(usb, bus.Wires))],
                _ => [],
            };
            foreach (string place in places) monitor.Write($"{indent}    {place}\n");
            foreach (QBus child in device.Buses) Print(monitor, child, depth + 2, usb);
        }
    }
}
