using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Registers by which ACPI methods learn what memory is in which slot, what comes and is to go, and let go of
/// it. Spec: QEMU's docs/specs/acpi_mem_hotplug.</summary>
/// <param name="slots">Their number.</param>
/// <param name="gpe">Where event 3 tells of news.</param>
/// <param name="eject">The guest has let go of what is in a slot.</param>
/// <param name="tell">What the guest said of a request: slot, event and status of _OST.</param>
public sealed class AcpiMemoryHotPlug(int slots, GpeBlock gpe, Action<int> eject, Action<int, uint, uint> tell)
    : IDevice, IRegisterBank
{
    public const ulong Port = 0x0A00, Size = 0x18;
    public const int Gpe = 3;

    // Offsets of what is read
    const ulong AddressLow = 0x00, AddressHigh = 0x04, SizeLow = 0x08, SizeHigh = 0x0C, Proximity = 0x10,
        Status = 0x14;

    // And of what is written, beside Control at Status
    const ulong Selector = 0x00, OstEvent = 0x04, OstStatus = 0x08;

    const byte Enabled = 1, Inserting = 2, Removing = 4, Ejecting = 8;

    readonly Slot[] _slots = [.. Enumerable.Range(0, slots).Select(_ => new Slot())];
    uint _selected;

    sealed class Slot
    {
        public ulong Address, Size;                                // who is there says it
        public uint Node;
        public byte Status;
        public uint OstEvent, OstStatus;
    }

    public string Name => "memory-hotplug";

    /// <summary>What the guest has last said of a slot: event and status of _OST.</summary>
    public (uint Event, uint Status) SaidOf(int slot) => (_slots[slot].OstEvent, _slots[slot].OstStatus);

    /// <param name="isNews">The guest runs already, and is told.</param>
    public void Insert(int slot, ulong address, ulong size, uint node, bool isNews)
    {
        Slot filled = _slots[slot];
        (filled.Address, filled.Size, filled.Node) = (address, size, node);
        filled.Status = (byte)(isNews ? Enabled | Inserting : Enabled);
        if (isNews) gpe.Raise(Gpe);
    }

    public void RequestRemoval(int slot)
    {
        _slots[slot].Status |= Removing;
        gpe.Raise(Gpe);
    }

    public void Removed(int slot)
    {
        (_slots[slot].Address, _slots[slot].Size, _slots[slot].Node) = (0, 0, 0);
        _slots[slot].Status = 0;
    }

    /// <summary>Who starts afresh finds the memory without being told.</summary>
    public void Reset()
    {
        _selected = 0;
        foreach (Slot slot in _slots)
            (slot.Status, slot.OstEvent, slot.OstStatus) = ((byte)(slot.Status & Enabled), 0, 0);
    }

    public ulong Read(ulong offset, int size)
    {
        if (Selected is not { } slot) return ulong.MaxValue;
        return (offset & ~3UL) switch
        {
            AddressLow => (uint)slot.Address,
            AddressHigh => slot.Address >> 32,
            SizeLow => (uint)slot.Size,
            SizeHigh => slot.Size >> 32,
            Proximity => slot.Node,
            _ => slot.Status,
        } >> (int)(offset & 3) * 8;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset == Selector) { _selected = (uint)value; return; }
        if (Selected is not { } slot) return;
        switch (offset)
        {
            case OstEvent: slot.OstEvent = (uint)value; break;
            case OstStatus:
                slot.OstStatus = (uint)value;
                tell((int)_selected, slot.OstEvent, slot.OstStatus);
                break;
            case Status:
                slot.Status &= (byte)~(value & (Inserting | Removing));
                if ((value & Ejecting) != 0) Eject(slot);
                break;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Field("selected", ref _selected);
        for (int i = 0; i < _slots.Length; i++)
        {
            StateStream slot = state.Group("slot", i);
            byte events = (byte)(_slots[i].Status & ~Enabled);
            slot.Field("events", ref events);
            slot.Field("ost-event", ref _slots[i].OstEvent);
            slot.Field("ost-status", ref _slots[i].OstStatus);
            _slots[i].Status = (byte)(_slots[i].Status & Enabled | events & (Inserting | Removing));
        }
    }

    Slot? Selected => _selected < (uint)_slots.Length ? _slots[_selected] : null;

    /// <summary>It is gone for the guest at once.</summary>
    void Eject(Slot slot)
    {
        if ((slot.Status & Enabled) == 0) return;
        slot.Status = 0;
        eject((int)_selected);
    }
}
