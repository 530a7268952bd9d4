using Qkvm.Control.Hmp;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Usb;

namespace Qkvm.Control.Commands;

/// <summary>info usb.</summary>
static class UsbDevices
{
    public static readonly Command Command = new HumanCommand("info usb", "", "show guest USB devices",
        static (monitor, words) =>
        {
            words.End();
            UsbBus[] buses = Buses(monitor.Context.Machine.Tree);
            if (buses.Length == 0) throw new CommandException("USB support not enabled");
            ILookup<object?, string?> ids = monitor.Context.Machine.Tree.AllDevices
                .ToLookup(node => (object?)node.Device, node => node.Id);
            for (int i = 0; i < buses.Length; i++)
                foreach (var (port, device) in buses[i].Devices)
                    monitor.Write($"  Device {i}.{device.Address}, Port {port.Path}, "
                        + $"Speed {Megabits(device.Speed)} Mb/s, "
                        + $"Product {device.Product}{(ids[device].First() is { } id ? $", ID: {id}" : "")}\n");
        });

    /// <summary>Each has its number by its place here.</summary>
    public static UsbBus[] Buses(QBus tree) => [.. tree.All.Select(bus => bus.Wires).OfType<UsbBus>()];

    /// <summary>A line of info qtree.</summary>
    public static string Place(UsbDevice device, int bus) =>
        $"addr {bus}.{device.Address}, port {device.Place!.Path}, speed {Megabits(device.Speed)}, "
        + $"name {device.Product}{(device.Port != null ? ", attached" : "")}";

    static string Megabits(UsbSpeed speed) => speed switch
    {
        UsbSpeed.Low => "1.5",
        UsbSpeed.Full => "12",
        UsbSpeed.High => "480",
        _ => "5000",
    };
}
