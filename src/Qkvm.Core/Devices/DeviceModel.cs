using Qkvm.Core.Machine;

namespace Qkvm.Core.Devices;

public enum DeviceCategory { Controller, Storage, Network, Input, Display, Misc, Bridge }

/// <summary>A device that users can name with -device: what the catalogue lists. Option parsing, <c>-device help</c> and
/// <c>info qtree</c> all read this record.</summary>
/// <param name="Name">QEMU's name.</param>
/// <param name="Bus">The kind of bus it sits on: "PCI", "ISA", "IDE", "virtio-bus" …</param>
/// <param name="Create">Makes the device. A <see cref="Pci.PciDevice"/> is then plugged by the machine at its
/// <c>addr</c>; any other attaches itself to ports, memory or its bus here.</param>
public sealed record DeviceModel(string Name, string Bus, Property[] Properties,
    Func<Properties, IBoard, IDevice> Create)
{
    public DeviceCategory Category { get; init; } = DeviceCategory.Misc;
    public string Description { get; init; } = "";

    /// <summary>Other names for the same model, such as virtio-blk for virtio-blk-pci.</summary>
    public string[] Aliases { get; init; } = [];

    /// <summary>What every PCI device takes beside its own properties.</summary>
    public static readonly Property[] PciProperties =
    [
        new("addr", PropertyKind.PciAddress, null, "slot and optional function: 0x4.0x1"),
        Property.Bool("multifunction", false),
        Property.Text("romfile", null, "option ROM file, empty for none"),
        Property.Bool("rombar", true),
        Property.Number("bootindex", ulong.MaxValue, help: "place in the boot order, 0 first"),
    ];
}
