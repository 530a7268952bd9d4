using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Registers by which ACPI methods learn what comes to the slots of PCI buses and is to go, and let go of it.
/// Spec: QEMU's docs/specs/acpi_pci_hotplug; the bus selector and the index are observed of QEMU 7.2.</summary>
/// <param name="gpe">Where event 1 tells of news.</param>
/// <param name="eject">The guest has let go of a function.</param>
public sealed class AcpiPciHotPlug(GpeBlock gpe, Action<PciDevice> eject) : IDevice, IRegisterBank, IPciHotPlug
{
    public const ulong Size = 0x18;
    public const int Gpe = 1;

    // Offsets
    const ulong Up = 0x00, Down = 0x04, Eject = 0x08, Removable = 0x0C, Selector = 0x10, Index = 0x14;

    readonly List<Slots> _buses = [];
    uint _selected, _index;

    /// <summary>The pending events of a bus, a bit for each slot.</summary>
    sealed class Slots(PciBus bus)
    {
        public readonly PciBus Bus = bus;
        public uint Up, Down;
    }

    public string Name => "pci-hotplug";

    /// <summary>Of the board's own buses; those that come later are not the guest's to know by ACPI.</summary>
    public void Attach(PciBus bus)
    {
        bus.HotPlug = this;
        _buses.Add(new Slots(bus));
    }

    /// <summary>What the selector calls a bus; null for one that is not attached.</summary>
    public int? NumberOf(PciBus bus) => _buses.FindIndex(slots => slots.Bus == bus) is >= 0 and var at ? at : null;

    /// <summary>The guest was asked to let go of them, and has not.</summary>
    public IEnumerable<PciDevice> Leaving => _buses.SelectMany(slots => In(slots, slots.Down));

    public void Inserted(PciDevice device) => Tell(device, isComing: true);

    public void RequestRemoval(PciDevice device) => Tell(device, isComing: false);

    public void Removed(PciDevice device)
    {
        if (Find(device.Bus) is not { } slots || In(slots, Bit(device)).Any()) return;
        slots.Up &= ~Bit(device);
        slots.Down &= ~Bit(device);
    }

    public void Reset()
    {
        _selected = _index = 0;
        foreach (Slots slots in _buses) slots.Up = slots.Down = 0;
    }

    public ulong Read(ulong offset, int size)
    {
        if (offset == Selector) return _selected;
        if (Selected is not { } slots) return 0;
        switch (offset)
        {
            case Up:                                               // reading takes the news
                (uint up, slots.Up) = (slots.Up, 0);
                return up;
            case Down: return slots.Down;
            case Removable: return uint.MaxValue;
            case Index:
                (uint index, _index) = (_index, 0);
                return index;
            default: return 0;                                     // the features: none beside the selector
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset == Selector) { _selected = (uint)value; return; }
        if (Selected is not { } slots) return;
        switch (offset)
        {
            case Eject:
                slots.Up &= ~(uint)value;
                slots.Down &= ~(uint)value;
                foreach (PciDevice device in In(slots, (uint)value).Where(IsEjectable).ToArray()) eject(device);
                break;
            case Index:
                _index = In(slots, (uint)value).FirstOrDefault(device => (device.DevFn & 7) == 0)?.AcpiIndex ?? 0;
                break;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Field("selected", ref _selected);
        state.Field("index", ref _index);
        for (int i = 0; i < _buses.Count; i++)
        {
            StateStream bus = state.Group("bus", i);
            bus.Field("up", ref _buses[i].Up);
            bus.Field("down", ref _buses[i].Down);
        }
    }

    /// <summary>A bridge of the board's own has buses that the tables describe, and stays.</summary>
    public bool IsEjectable(PciDevice device) => device is not PciBridge bridge || NumberOf(bridge.Secondary) == null;

    Slots? Selected => _selected < (uint)_buses.Count ? _buses[(int)_selected] : null;

    Slots? Find(PciBus bus) => _buses.Find(slots => slots.Bus == bus);

    static uint Bit(PciDevice device) => 1u << (device.DevFn >> 3);

    static IEnumerable<PciDevice> In(Slots slots, uint bits) =>
        slots.Bus.Devices.Where(device => (bits & Bit(device)) != 0);

    void Tell(PciDevice device, bool isComing)
    {
        if (Find(device.Bus) is not { } slots) return;
        if (isComing) slots.Up |= Bit(device);
        else slots.Down |= Bit(device);
        gpe.Raise(Gpe);
    }
}
