namespace Qkvm.Core.Devices;

/// <summary>A kind of bus, and what every device on one takes beside its own properties.</summary>
public sealed record BusKind(string Name, params Property[] Properties)
{
    /// <summary>Devices may come and go while the machine runs.</summary>
    public bool IsHotPluggable { get; init; }

    /// <summary>Devices made for the other kind sit on this one, too.</summary>
    public bool Is(BusKind other) => this == other || Kin == other;

    /// <summary>The kind whose devices it takes beside its own.</summary>
    public BusKind? Kin { get; init; }

    static readonly Property Bus = new("bus", PropertyKind.Bus, null, "the bus to sit on");
    static readonly Property BootIndex = Property.Automatic("bootindex", max: int.MaxValue,
        help: "place in the boot order, 0 first");

    /// <summary>The root of the tree.</summary>
    public static readonly BusKind System = new("System");

    /// <summary>Of devices that sit on none, but in slots of the board.</summary>
    public static readonly BusKind None = new("none") { IsHotPluggable = true };

    public static readonly BusKind Isa = new("ISA", Bus);

    public static readonly BusKind Ide = new("IDE", Bus, Property.Automatic("unit", max: 1, help: "0 master, 1 slave"),
        BootIndex);

    public static readonly BusKind Floppy = new("floppy-bus", Bus, Property.Automatic("unit", max: 1, help: "0 is A"),
        BootIndex);

    public static readonly BusKind Pci = new("PCI", Bus,
        new Property("addr", PropertyKind.PciAddress, null, "slot and optional function: 0x4.0x1"),
        Property.Bool("multifunction", false),
        Property.Text("romfile", null, "option ROM file, empty for none"),
        Property.Number("rombar", 1, max: uint.MaxValue, help: "0: no ROM is seen"),
        Property.Number("acpi-index", 0, help: "the guest's number of a card, which it names it by"),
        BootIndex) { IsHotPluggable = true };

    /// <summary>Its devices, and those on the hubs of the same controller.</summary>
    public static readonly BusKind Usb = new("usb-bus", Bus,
        Property.Text("port", null, "a port, or a port of a hub: 1.2"),
        Property.Text("serial", null, "serial number"),
        Property.Bool("msos-desc", true, "descriptors for Windows"), Property.Missing("pcap"))
    { IsHotPluggable = true };

    /// <summary>What virtio devices without a transport of their own are made for.</summary>
    public static readonly BusKind Virtio = new("virtio-bus", Bus, BootIndex);

    /// <summary>One device's place in a transport in memory.</summary>
    public static readonly BusKind VirtioMmio = Virtio with { Name = "virtio-mmio-bus", Kin = Virtio };

    /// <summary>Of the ports of a virtio-serial device.</summary>
    public static readonly BusKind VirtioSerial = new("virtio-serial-bus", Bus) { IsHotPluggable = true };

    /// <summary>Of the logical units behind a host bus adapter.</summary>
    public static readonly BusKind Scsi = new("SCSI", Bus, Property.Number("channel", 0),
        Property.Automatic("scsi-id", help: "target"), Property.Automatic("lun", help: "logical unit of the target"),
        BootIndex) { IsHotPluggable = true };

    /// <summary>Of the namespaces of a controller.</summary>
    public static readonly BusKind Nvme = new("nvme-bus", Bus, BootIndex) { IsHotPluggable = true };

    /// <summary>Takes conventional functions, too.</summary>
    public static readonly BusKind PciExpress = Pci with { Name = "PCIE", Kin = Pci };
}
