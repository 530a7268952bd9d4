using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Registers by which ACPI methods learn which processors come and are to go, and let go of them. Spec: QEMU's
/// docs/specs/acpi_cpu_hotplug, "Modern ACPI CPU hotplug interface registers".</summary>
/// <remarks>Deviations: the older interface, which the first write to the selector would end, is not there; bit 4,
/// which leaves ejecting to firmware in system management mode, is not either.</remarks>
/// <param name="apicIds">Of all processors that there can be.</param>
/// <param name="gpe">Where event 2 tells of news.</param>
/// <param name="eject">The guest has let go of a processor.</param>
/// <param name="tell">What the guest said of a request: processor, event and status of _OST.</param>
public sealed class AcpiCpuHotPlug(IReadOnlyList<uint> apicIds, GpeBlock gpe, Action<int> eject,
    Action<int, uint, uint> tell) : IDevice, IRegisterBank
{
    public const ulong Size = 12;
    public const int Gpe = 2;

    // Offsets
    const ulong Selector = 0, Data2 = 0, Status = 4, Command = 5, Data = 8;

    // Status, and Control at the same place
    const byte Enabled = 1, Inserting = 2, Removing = 4, Ejecting = 8;

    // Commands
    const byte FindPending = 0, OstEvent = 1, OstStatus = 2, ArchitectureId = 3;

    readonly Slot[] _slots = [.. apicIds.Select(_ => new Slot())];
    uint _selected;
    byte _command;

    sealed class Slot
    {
        public byte Status;
        public uint OstEvent, OstStatus;
    }

    public string Name => "cpu-hotplug";

    public bool IsPresent(int cpu) => (_slots[cpu].Status & Enabled) != 0;

    /// <summary>What the guest has last said of each: event and status of _OST.</summary>
    public (uint Event, uint Status) SaidOf(int cpu) => (_slots[cpu].OstEvent, _slots[cpu].OstStatus);

    /// <param name="isNews">The guest runs already, and is told.</param>
    public void Insert(int cpu, bool isNews)
    {
        _slots[cpu].Status = (byte)(isNews ? Enabled | Inserting : Enabled);
        if (isNews) gpe.Raise(Gpe);
    }

    public void RequestRemoval(int cpu)
    {
        _slots[cpu].Status |= Removing;
        gpe.Raise(Gpe);
    }

    public void Removed(int cpu) => _slots[cpu].Status = 0;

    /// <summary>Who starts afresh finds the processors without being told.</summary>
    public void Reset()
    {
        (_selected, _command) = (0, 0);
        foreach (Slot slot in _slots)
            (slot.Status, slot.OstEvent, slot.OstStatus) = ((byte)(slot.Status & Enabled), 0, 0);
    }

    public ulong Read(ulong offset, int size) => Selected is not { } slot ? 0 : offset switch
    {
        Data2 => 0,                                                // the upper half of an APIC id, or nothing
        Status => slot.Status,
        Data when _command == FindPending => _selected,
        Data when _command == ArchitectureId => apicIds[(int)_selected],
        _ => 0ul,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset == Selector) { _selected = (uint)value; return; }
        if (Selected is not { } slot) return;
        switch (offset)
        {
            case Status:
                slot.Status &= (byte)~(value & (Inserting | Removing));
                if ((value & Ejecting) != 0) Eject((int)_selected, slot);
                break;
            case Command:
                _command = (byte)value;
                if (_command == FindPending) SelectPending();
                break;
            case Data when _command == OstEvent: slot.OstEvent = (uint)value; break;
            case Data when _command == OstStatus:
                slot.OstStatus = (uint)value;
                tell((int)_selected, slot.OstEvent, slot.OstStatus);
                break;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Field("selected", ref _selected);
        state.Field("command", ref _command);
        for (int i = 0; i < _slots.Length; i++)
        {
            StateStream slot = state.Group("slot", i);
            byte events = (byte)(_slots[i].Status & ~Enabled);     // who is there is said by who is asked for
            slot.Field("events", ref events);
            slot.Field("ost-event", ref _slots[i].OstEvent);
            slot.Field("ost-status", ref _slots[i].OstStatus);
            _slots[i].Status = (byte)(_slots[i].Status & Enabled | events & (Inserting | Removing));
        }
    }

    Slot? Selected => _selected < (uint)_slots.Length ? _slots[_selected] : null;

    /// <summary>It is gone for the guest at once; the boot processor stays.</summary>
    void Eject(int cpu, Slot slot)
    {
        if (cpu == 0 || (slot.Status & Enabled) == 0) return;
        slot.Status = 0;
        eject(cpu);
    }

    /// <summary>The next from the selected one on that has news; where none has, nothing changes.</summary>
    void SelectPending()
    {
        for (int i = 0; i < _slots.Length; i++)
        {
            uint next = (uint)((_selected + i) % _slots.Length);
            if ((_slots[next].Status & (Inserting | Removing)) == 0) continue;
            _selected = next;
            return;
        }
    }
}
