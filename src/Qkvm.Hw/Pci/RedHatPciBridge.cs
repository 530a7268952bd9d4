using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>pci-bridge: more slots for conventional PCI devices. Spec: PCI-to-PCI Bridge Architecture 1.2; slot
/// numbering: section 13.</summary>
/// <remarks>Deviations: no standard hot-plug controller.</remarks>
public sealed class RedHatPciBridge : PciBridge
{
    public static readonly DeviceModel Model = new("pci-bridge", BusKind.Pci,
        [
            Property.Number("chassis_nr", 0, max: byte.MaxValue, help: "number of its own, from 1 on, for the guest"),
            Property.Missing("shpc", "off"), Property.Missing("msi", Property.Auto, "the bridge has no interrupt"),
        ], Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "Standard PCI Bridge",
    };

    const byte SlotNumbering = 0x04;
    const int ExpansionSlot = 2, Chassis = 3;
    const byte FirstInChassis = 0x20;

    /// <summary>What firmware keeps free behind it for devices that come later.</summary>
    static readonly BridgeReserve s_room =
        new(uint.MaxValue, Io: 4 << 10, Memory: 2 << 20, uint.MaxValue, ulong.MaxValue);

    public RedHatPciBridge(PciBus parent, string bus, byte chassis)
        : base(new PciIdentity(0x1B36, 0x0001, 0x060400, HasInterruptPin: false), Model.Name, parent, bus)
    {
        int slot = Config.AddCapability(SlotNumbering, 4);
        Config.Define(slot + ExpansionSlot, FirstInChassis);
        Config.Define(slot + Chassis, chassis, 0xFF);
        s_room.Define(Config);
    }

    static RedHatPciBridge Create(Properties properties, DeviceSite site)
    {
        ulong chassis = properties.Number("chassis_nr");
        if (chassis == 0) throw properties.Error("give each bridge a number of its own: chassis_nr=1 and so on");
        string name = site.NameBus(BusKind.Pci);
        var bridge = new RedHatPciBridge((PciBus)site.Bus.Wires!, name, (byte)chassis);
        site.AddBus(new QBus(name, BusKind.Pci, bridge.Secondary));
        return bridge;
    }
}
