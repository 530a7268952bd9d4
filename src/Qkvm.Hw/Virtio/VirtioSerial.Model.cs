using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Hw.Virtio;

/// <summary>The device and its two kinds of ports, as users name them.</summary>
public static class VirtioSerialModels
{
    const int MostPorts = 511;                                     // two queues each, of 1024

    public static readonly DeviceModel[] Devices = VirtioPciModels.Family("virtio-serial-pci", "virtio serial ports",
        DeviceCategory.Input, 0x078000,
        [
            Property.Number("class", 0, max: 0xFFFF, help: "PCI class code, 0 for what the device is"),
            Property.Number("max_ports", 31, 1, MostPorts, "port numbers, port 0 among them"),
            Property.Bool("emergency-write", true, "a register that writes to the first console"),
        ],
        device => device.QueueSizes.Count / 2,
        (name, values, site) =>
        {
            var device = new VirtioSerial(name, site.Clock, (int)values.Number("max_ports"),
                values.Bool("emergency-write")) { Post = site.Board.Post };
            site.AddBus(new QBus(site.NameBus(BusKind.VirtioSerial, ".0"), BusKind.VirtioSerial, device));
            return device;
        });

    static readonly Property[] s_port =
    [
        Property.Chardev(), Property.Automatic("nr", max: MostPorts - 1, help: "port number"),
        Property.Text("name", help: "by which the guest finds it"),
    ];

    public static readonly DeviceModel Console = new("virtconsole", BusKind.VirtioSerial, s_port,
        static (values, site) => Port(Console!, values, site))
        { Category = DeviceCategory.Input, Description = "a console: /dev/hvc0 of Linux" };

    public static readonly DeviceModel SerialPort = new("virtserialport", BusKind.VirtioSerial, s_port,
        static (values, site) => Port(SerialPort!, values, site))
        { Category = DeviceCategory.Input, Description = "a port: /dev/virtio-ports/NAME of Linux" };

    static VirtioSerialPort Port(DeviceModel model, Properties values, DeviceSite site)
    {
        ICharBackend? backend = values.Text("chardev") is { } chardev ? site.Chardev(chardev) : null;
        Action<bool>? tell = site.Id is { } id ? open => site.Board.Raise(new SerialPortChangeEvent(open, id)) : null;
        return new VirtioSerialPort(site.Id ?? model.Name, model == Console, values.Text("name"), backend, tell);
    }
}
