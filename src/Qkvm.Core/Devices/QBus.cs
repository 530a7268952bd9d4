namespace Qkvm.Core.Devices;

/// <summary>A bus of the one device tree: `info qtree`, bus=, boot paths, states and hot-plugging walk it.</summary>
/// <param name="wires">The chip's side of it; null where devices take what they need of the board.</param>
public sealed class QBus(string name, BusKind kind, IBusWires? wires = null)
{
    readonly List<QDevice> _devices = [];

    public string Name { get; } = name;
    public BusKind Kind { get; } = kind;
    public IBusWires? Wires { get; } = wires;

    /// <summary>The device that has this bus; null of the root.</summary>
    public QDevice? Owner { get; internal set; }

    /// <summary>Devices may come and go while the machine runs.</summary>
    public bool IsHotPluggable => Kind.IsHotPluggable && Wires is not { TakesHotPlug: false };

    public IReadOnlyList<QDevice> Devices => _devices;

    public void Add(QDevice device)
    {
        _devices.Add(device);
        device.Bus = this;
    }

    public void Remove(QDevice device) => _devices.Remove(device);

    /// <summary>This bus or one below it, or null.</summary>
    public QBus? Find(string name) => All.FirstOrDefault(bus => bus.Name == name);

    /// <summary>The first bus of a kind from here on down, or null.</summary>
    public QBus? Find(BusKind kind) => All.FirstOrDefault(bus => bus.Kind.Is(kind));

    /// <summary>The device of this id, on this bus or below it, or null.</summary>
    public QDevice? FindDevice(string id) => AllDevices.FirstOrDefault(device => device.Id == id);

    /// <summary>This bus and all below it, each before those of its own devices.</summary>
    public IEnumerable<QBus> All =>
        _devices.SelectMany(device => device.Buses).SelectMany(bus => bus.All).Prepend(this);

    /// <summary>All devices from here on down, each before those of its own buses.</summary>
    public IEnumerable<QDevice> AllDevices => _devices.SelectMany(device => device.All);
}

/// <summary>The chip's side of a bus: devices get their places here.</summary>
public interface IBusWires
{
    /// <summary>No other device has room.</summary>
    bool IsFull { get; }

    /// <summary>Takes a device at the place that its properties name, or at a free one; the site gives the place
    /// back.</summary>
    /// <exception cref="ConfigurationException">There is no such place, or another device has it.</exception>
    void Plug(IDevice device, Properties properties, DeviceSite site);

    /// <summary>Devices may come and go while the machine runs, as far as the kind of bus lets them.</summary>
    bool TakesHotPlug => true;

    /// <summary>Asks the guest to let go of a device; the answer comes by <see cref="Machine.IBoard.Eject"/>. False
    /// where nobody needs to be asked: the device goes at once.</summary>
    bool RequestUnplug(IDevice device) => false;

    /// <summary>A device's part of Open Firmware paths, which the firmware's boot order is made of:
    /// "scsi@4"; "/pci@i0cf8,1" of one that begins a path of its own.</summary>
    string PathOf(IDevice device);
}
