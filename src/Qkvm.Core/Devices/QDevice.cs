using Qkvm.Core.Acpi;

namespace Qkvm.Core.Devices;

/// <summary>A device of the tree: driver name, id, property values as users write them.</summary>
public sealed class QDevice
{
    readonly List<QBus> _buses = [];
    readonly List<AcpiDescription> _descriptions = [];

    /// <param name="site">Its buses and descriptions are the device's.</param>
    public QDevice(string driver, string? id, IDevice? device, IReadOnlyList<OptionPair> properties,
        DeviceSite? site = null)
    {
        (Driver, Id, Device, Properties, Site) = (driver, id, device, properties, site);
        if (site == null) return;
        foreach (QBus bus in site.Buses) Add(bus);
        _descriptions.AddRange(site.Descriptions);
    }

    public string Driver { get; }
    public string? Id { get; }

    /// <summary>Null for what exists only as a line of the tree.</summary>
    public IDevice? Device { get; }
    public IReadOnlyList<OptionPair> Properties { get; }

    /// <summary>What it has taken; null of a chip of the board.</summary>
    public DeviceSite? Site { get; }
    public bool IsHotPluggable { get; init; }

    /// <summary>What the machine itself calls one of its chips: "system.flash0"; null: nothing.</summary>
    public string? MachineName { get; init; }

    /// <summary>When the guest was last asked to let go of it, on the machine's clock; null: never.</summary>
    public long? UnplugAsked { get; set; }

    /// <summary>The bus that it sits on; null until it is added to one.</summary>
    public QBus? Bus { get; internal set; }

    /// <summary>The buses that it brings.</summary>
    public IReadOnlyList<QBus> Buses => _buses;

    public void Add(QBus bus)
    {
        _buses.Add(bus);
        bus.Owner = this;
    }

    /// <summary>What ACPI tells the guest of it.</summary>
    public IReadOnlyList<AcpiDescription> Descriptions => _descriptions;

    public void Describe(string name, Func<Aml[]> terms) => _descriptions.Add(new AcpiDescription(name, terms));

    /// <summary>This device and all below it.</summary>
    public IEnumerable<QDevice> All => _buses.SelectMany(bus => bus.AllDevices).Prepend(this);

    /// <summary>Its Open Firmware path, as the boot order names what it boots: "/pci@i0cf8/ide@1,1/drive@0". Devices
    /// that no bus gives a name have no part in it.</summary>
    public string BootPath
    {
        get
        {
            string part = Device == null ? "" : Bus?.Wires?.PathOf(Device) ?? Device.PathName;
            if (part.StartsWith('/')) return part;                 // it begins a path of its own
            return (Bus?.Owner?.BootPath ?? "") + (part.Length > 0 ? $"/{part}" : "");
        }
    }
}
