using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>What tells one port from another.</summary>
/// <param name="SubsystemAt">Where each capability stands: that of the subsystem's identity, MSI (or MSI-X) and PCI
/// Express.</param>
/// <param name="Messages">Vectors of its MSI; 0 where it has MSI-X instead.</param>
public sealed record PciePortChip(string Name, PciIdentity Identity, ExpressKind Kind, ExpressLink Link,
    int SubsystemAt, int InterruptAt, int ExpressAt, int Messages = 0)
{
    /// <summary>Its MSI has 64 bits of address and no masks, or 32 bits and masks.</summary>
    public bool Is64Bit { get; init; }

    public ushort SubsystemVendor { get; init; }
}

/// <summary>How a user wants a port.</summary>
/// <param name="Number">Of the port.</param>
/// <param name="Slot">Physical Slot Number.</param>
public sealed record PciePortOptions(byte Number = 0, ushort Slot = 0, bool HasHotPlug = true,
    bool HasPowerController = true, bool HasAccessControl = false);

/// <summary>A PCI Express port with one slot: of the root complex, or of a switch downwards. Spec: PCI Express Base
/// 3.0, sections 6.7 and 7.8.</summary>
public abstract class PciePort : PciBridge, IPciHotPlug
{
    const byte SubsystemCapability = 0x0D;
    const int MsiXBar = 0;
    const uint PendingBits = 0x800;

    readonly PcieSlot _slot;

    /// <param name="eject">The guest has let go of what is in the slot.</param>
    protected PciePort(PciePortChip chip, PciBus parent, string bus, PciePortOptions options, Action<PciDevice> eject)
        : base(chip.Identity, chip.Name, parent, bus, slotCount: 1, ioWidth: 0, isExpress: true)
    {
        // The guest sees the list from the last to the first.
        if (chip.SubsystemAt < chip.InterruptAt) DefineSubsystem(chip);
        if (chip.Messages > 0) Msi = new Msi(this, chip.Messages, chip.InterruptAt, chip.Is64Bit, !chip.Is64Bit);
        else DefineMsiX(chip.InterruptAt);
        if (chip.SubsystemAt > chip.InterruptAt) DefineSubsystem(chip);
        var express = new PciExpress(Config, chip.Kind, chip.Link, chip.ExpressAt, options.Number);
        PciExpress.AddErrorReporting(Config, isRoot: chip.Kind == ExpressKind.RootPort);
        if (options.HasAccessControl) PciExpress.AddAccessControl(Config);
        _slot = new PcieSlot(express, () =>
        {
            foreach (PciDevice device in Secondary.Devices.ToArray()) eject(device);
        }, Interrupt);
        _slot.Define(options);
        if (options.HasHotPlug) Secondary.HotPlug = this;
    }

    /// <summary>The options that all have.</summary>
    protected static Property[] OptionsAnd(params Property[] own) =>
    [
        Property.Number("port", 0, max: byte.MaxValue, help: "number of the port"),
        Property.Number("chassis", 0, max: byte.MaxValue, help: "number of the chassis that the slot is in"),
        Property.Number("slot", 0, max: 0x1FFF, help: "number of the slot in its chassis"),
        Property.Bool("hotplug", true, "the slot takes devices while the machine runs"),
        Property.Bool("power_controller_present", true, "software switches the slot's power"),
        .. own,
    ];

    /// <summary>Makes a port of a command line, with its bus.</summary>
    protected static PciePort Create(Properties properties, DeviceSite site,
        Func<PciBus, string, PciePortOptions, PciePort> make)
    {
        string name = site.NameBus(BusKind.PciExpress, ending: "");
        var options = new PciePortOptions((byte)properties.Number("port"), (ushort)properties.Number("slot"),
            properties.Bool("hotplug"), properties.Bool("power_controller_present"));
        PciePort port = make((PciBus)site.Bus.Wires!, name, options);
        site.AddBus(new QBus(name, BusKind.PciExpress, port.Secondary));
        return port;
    }

    protected override void ResetDevice()
    {
        base.ResetDevice();
        _slot.Reset(Secondary[0] != null);
    }

    protected override void ExchangeDevice(StateStream state)
    {
        base.ExchangeDevice(state);
        _slot.Exchange(state);
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        base.OnConfigWritten(offset, size);
        _slot.ConfigWritten(offset, size);
    }

    protected override void OnPlugged(int devFn) => SlotChanged(devFn);

    protected override void OnUnplugged(int devFn) => SlotChanged(devFn);

    // The port's own controller, where it has the slot

    void IPciHotPlug.Inserted(PciDevice device)
    {
        if (device.DevFn == 0) _slot.Insert();
    }

    void IPciHotPlug.RequestRemoval(PciDevice device) => _slot.RequestRemoval();

    void IPciHotPlug.Removed(PciDevice device)
    {
        if (device.DevFn == 0) _slot.Removed();
    }

    /// <summary>The slot of another controller, such as ACPI, is on while something is in it.</summary>
    void SlotChanged(int devFn)
    {
        if (devFn == 0 && Secondary.HotPlug != this) _slot.Reset(Secondary[0] != null);
    }

    void DefineSubsystem(PciePortChip chip)
    {
        int subsystem = Config.AddCapability(SubsystemCapability, 8, chip.SubsystemAt);
        Config.Define16(subsystem + 4, chip.SubsystemVendor);
    }

    void DefineMsiX(int at)
    {
        MsiX = new MsiX(this, 1, MsiXBar, 0, PendingBits, at);
        MemoryRegion vectors = MemoryRegion.Container($"{Name}-msix", 0x1000);
        vectors.Map(0, MsiX.TableRegion);
        vectors.Map(PendingBits, MsiX.PendingRegion);
        Bar(MsiXBar, vectors, BarKind.Memory32);
    }
}
