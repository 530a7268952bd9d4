using Qkvm.Control.Hmp;
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
            UsbBus[] buses = [.. monitor.Context.Machine.Tree.All.Select(bus => bus.Wires).OfType<UsbBus>()];
            if (buses.Length == 0) throw new CommandException("USB support not enabled");
            ILookup<object?, string?> ids = monitor.Context.Machine.Tree.AllDevices
                .ToLookup(node => (object?)node.Device, node => node.Id);
            for (int i = 0; i < buses.Length; i++)
                foreach (var (port, device) in buses[i].Devices)
                    monitor.Write($"  Device {i}.{device.Address}, Port {port.Path}, "
                        + $"Speed {Megabits(device.Speed)} Mb/s, "
                        + $"Product {device.Product}{(ids[device].First() is { } id ? $", ID: {id}" : "")}\n");
        });

    static string Megabits(UsbSpeed speed) => speed switch
    {
        UsbSpeed.Low => "1.5",
        UsbSpeed.Full => "12",
        UsbSpeed.High => "480",
        _ => "5000",
    };
}
