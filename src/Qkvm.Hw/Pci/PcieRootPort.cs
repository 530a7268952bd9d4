using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>pcie-root-port: one slot with hot-plug, behind a bridge of the root complex. Spec: PCI Express Base 3.0,
/// sections 6.7 and 7.8.</summary>
public sealed class PcieRootPort : PciBridge, IPciHotPlug
{
    public static readonly DeviceModel Model = new("pcie-root-port", BusKind.PciExpress,
        [
            Property.Number("port", 0, max: byte.MaxValue, help: "number of the port"),
            Property.Number("chassis", 0, max: byte.MaxValue, help: "number of the chassis that the slot is in"),
            Property.Number("slot", 0, max: 0x1FFF, help: "number of the slot in its chassis"),
            Property.Bool("hotplug", true, "the slot takes devices while the machine runs"),
            Property.Missing("io-reserve"), Property.Missing("mem-reserve"), Property.Missing("pref32-reserve"),
            Property.Missing("pref64-reserve"), Property.Missing("bus-reserve"), Property.Missing("x-speed", "16"),
            Property.Missing("x-width", "32"), Property.Missing("disable-acs", "false"),
            Property.Missing("power_controller_present", "on"),
        ], Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "PCI Express Root Port",
        IsHotPluggable = false,
    };

    static readonly PciIdentity Chip = new(0x1B36, 0x000C, 0x060400);

    const byte SubsystemCapability = 0x0D;
    const int SubsystemAt = 0x40, MsiXAt = 0x48, ExpressAt = 0x54, MsiXBar = 0;
    const uint PendingBits = 0x800;

    readonly PcieSlot _slot;
    bool _raised;

    /// <param name="eject">The guest has let go of what is in the slot.</param>
    public PcieRootPort(PciBus parent, string bus, byte port, ushort slot, Action<PciDevice> eject)
        : base(Chip, Model.Name, parent, bus, slotCount: 1, ioWidth: 0, isExpress: true)
    {
        int subsystem = Config.AddCapability(SubsystemCapability, 8, SubsystemAt);
        Config.Define16(subsystem + 4, Chip.VendorId);
        MsiX = new MsiX(this, 1, MsiXBar, 0, PendingBits, MsiXAt);
        MemoryRegion vectors = MemoryRegion.Container($"{Name}-msix", 0x1000);
        vectors.Map(0, MsiX.TableRegion);
        vectors.Map(PendingBits, MsiX.PendingRegion);
        Bar(MsiXBar, vectors, BarKind.Memory32);
        var express = new PciExpress(Config, ExpressKind.RootPort, ExpressLink.Fastest, ExpressAt, port);
        PciExpress.AddErrorReporting(Config, isRoot: true);
        PciExpress.AddAccessControl(Config);
        _slot = new PcieSlot(express, () =>
        {
            foreach (PciDevice device in Secondary.Devices.ToArray()) eject(device);
        }, Notify);
        _slot.Define(slot);
        Secondary.HotPlug = this;
    }

    protected override void ResetDevice()
    {
        base.ResetDevice();
        _raised = false;
        _slot.Reset(Secondary[0] != null);
    }

    protected override void ExchangeDevice(StateStream state)
    {
        base.ExchangeDevice(state);
        _slot.Exchange(state);
        if (state.IsLoading) _raised = _slot.IsRaised;
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

    void Notify(bool raised)
    {
        if (MsiX!.IsEnabled)
        {
            if (raised && !_raised) MsiX.Notify(0);
        }
        else IntX.Set(raised);
        _raised = raised;
    }

    static PcieRootPort Create(Properties properties, DeviceSite site)
    {
        string name = site.NameBus(BusKind.PciExpress, ending: "");
        var port = new PcieRootPort((PciBus)site.Bus.Wires!, name, (byte)properties.Number("port"),
            (ushort)properties.Number("slot"), site.Board.Eject);
        if (!properties.Bool("hotplug")) port.Secondary.HotPlug = null;
        site.AddBus(new QBus(name, BusKind.PciExpress, port.Secondary));
        return port;
    }
}
