using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Hw.Pci;

/// <summary>Hardware-reduced power management, as QEMU's acpi-ged-x86: which events have happened, and the registers of
/// sleep and reset. ACPI 6.3, sections 4.8.3.6, 4.8.3.7 and 5.6.9 "Interrupt-signaled ACPI events".</summary>
public sealed class GenericEventDevice : IDevice, IRegisterBank
{
    public const string Driver = "acpi-ged-x86";

    /// <summary>Offsets from the events' register.</summary>
    public const ulong SleepControl = 0x200, SleepStatus = 0x201, ResetRegister = 0x202;

    public const byte ResetValue = 0x42;

    /// <summary>SLP_TYP of S5.</summary>
    public const int SoftOff = 5;

    const uint PowerButton = 2;                                    // of events
    const int SleepTypeShift = 2, SleepTypeMask = 7, SleepEnable = 0x20;

    readonly IrqLine _irq;
    readonly Action _powerOff, _reset;
    uint _events;

    /// <param name="irq">Pulsed by each event.</param>
    public GenericEventDevice(IrqLine irq, Action powerOff, Action reset) =>
        (_irq, _powerOff, _reset) = (irq, powerOff, reset);

    public string Name => Driver;

    public void MapAt(ulong address, AddressSpace memory)
    {
        memory.Map(address, MemoryRegion.Io("acpi-ged", 4, this, new AccessSizes(4, 4, 4, 4)));
        memory.Map(address + SleepControl,
            MemoryRegion.Io("acpi-ged-regs", 3, new PowerRegisters(this), AccessSizes.ByteOnly));
    }

    public void Reset() => _events = 0;

    public void PressPowerButton()
    {
        _events |= PowerButton;
        _irq.Pulse();
    }

    /// <summary>The events since the last time.</summary>
    public ulong Read(ulong offset, int size)
    {
        uint events = _events;
        _events = 0;
        return events;
    }

    public void Write(ulong offset, int size, ulong value) { }     // read-only

    public void Exchange(StateStream state) => state.Field("events", ref _events);

    /// <summary>In the name space: the device, whose interrupt is <paramref name="gsi"/>.</summary>
    public static Aml[] Describe(ulong address, int gsi) =>
    [
        Name("_HID", Text("ACPI0013")),
        Name("_UID", Text("GED")),
        Name("_CRS", AmlResource.Template(AmlResource.Interrupt(gsi, isEdge: true))),
        OperationRegion("EREG", AmlRegionSpace.SystemMemory, Integer(address), 4),
        Field("EREG", AmlAccess.Dword, ("ESEL", 32)),
        Method("_EVT", 1,
            Store(Ref("ESEL"), Local0),
            If(And(Local0, (int)PowerButton),
                Notify(Ref("\\_SB.PWRB"), 0x80))),
    ];

    /// <summary>In the name space: what the button's event is about.</summary>
    public static Aml[] DescribeButton() => [Name("_HID", EisaId("PNP0C0C")), Name("_UID", 0)];

    sealed class PowerRegisters(GenericEventDevice device) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => 0;

        public void Write(ulong offset, int size, ulong value)
        {
            switch (offset + SleepControl)
            {
                case SleepControl when (value & SleepEnable) != 0
                    && ((int)value >> SleepTypeShift & SleepTypeMask) == SoftOff: device._powerOff(); break;
                case ResetRegister when value == ResetValue: device._reset(); break;
            }
        }
    }
}
