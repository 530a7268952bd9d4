using Qkvm.Core.Machine;

namespace Qkvm.Core.Devices;

public enum DeviceCategory { Controller, Storage, Network, Input, Display, Sound, Misc, Bridge, Cpu }

/// <summary>What a machine has by default, unless -device names a device that takes its place.</summary>
[Flags]
public enum DefaultDevice { None = 0, Serial = 1, Parallel = 2, Cdrom = 4, Vga = 8, Floppy = 16 }

/// <summary>A device that users can name with -device: what the catalogue lists. Option parsing, <c>-device help</c>
/// and
/// <c>info qtree</c> all read this record.</summary>
public sealed record DeviceModel : Model<DeviceSite, IDevice>
{
    /// <param name="name">QEMU's name.</param>
    /// <param name="bus">What it sits on, which brings properties of its own.</param>
    /// <param name="own">The device's properties; one that the bus has too replaces the bus's.</param>
    /// <param name="create">Makes the device. A <see cref="Pci.PciDevice"/> is then plugged by the machine at its
    /// <c>addr</c>; any other attaches itself to ports, memory or its bus here.</param>
    public DeviceModel(string name, BusKind bus, Property[] own, Func<Properties, DeviceSite, IDevice> create)
        : base(name, [.. own, .. bus.Properties.Where(p => !Array.Exists(own, o => o.Name == p.Name))], create) =>
            Bus = bus;

    /// <summary>A device that QEMU has and we have not.</summary>
    public static DeviceModel Missing(string name, string remedy = "") =>
        new(name, BusKind.None, [], static (_, _) =>
            throw new InvalidOperationException("not built")) { NotBuilt = "is not built yet" + remedy };

    public BusKind Bus { get; }

    /// <summary>May come and go on a bus where devices do.</summary>
    public bool IsHotPluggable { get; init; } = true;

    /// <summary>False: its state is somebody else's, and a machine with it cannot move to another host.</summary>
    public bool IsMigratable { get; init; } = true;

    public DeviceCategory Category { get; init; } = DeviceCategory.Misc;

    /// <summary>Default devices that are not made where -device names this one.</summary>
    public DefaultDevice Replaces { get; init; }

    public override string HelpLine => $"name \"{Name}\"{(Bus == BusKind.None ? "" : $", bus {Bus.Name}")}"
        + $"{(Aliases.Length > 0 ? $", alias \"{Aliases[0]}\"" : "")}"
        + (Description.Length > 0 ? $", desc \"{Description}\"" : "");
}
