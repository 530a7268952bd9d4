using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Intc;

/// <summary>I/O Advanced Programmable Interrupt Controller. Spec: Intel 82093AA data sheet, order 290566; version 20h
/// with the EOI register at 40h as later chip sets have it.</summary>
/// <remarks>The board maps it at FEC00000h, 1000h bytes, 4-byte accesses, and wires IRQ 0 to input 2.
/// Deviations: messages are delivered at once, so Delivery Status always reads idle; INTPOL is kept but inputs are
/// active high.</remarks>
public sealed partial class IoApic : IDevice, IRegisterBank, IInterruptController
{
    public const int Inputs = 24;

    // Memory mapped registers, section 3.1
    const ulong RegisterSelect = 0x00, Window = 0x10, Eoi = 0x40;
    // Indexed registers, section 3.2
    const int Id = 0, Version = 1, ArbitrationId = 2, RedirectionTable = 0x10;
    const uint VersionValue = (Inputs - 1) << 16 | 0x20;
    // Redirection table entry, section 3.2.4
    const ulong LogicalDestination = 1 << 11, RemoteIrr = 1 << 14, LevelTriggered = 1 << 15, Masked = 1 << 16;
    const ulong Writable = 0xFFFF0000_0001AFFF;                    // with VT-d's format, section 5.1.2.1 there
    const int AddressShift = 44, VectorAndMode = 0x7FF;            // bits 63:48 become the message's 19:4

    readonly ApicBus _bus;
    readonly int _number;
    readonly ulong[] _table = new ulong[Inputs];
    byte _select;
    byte _id;
    uint _inputs;

    public IoApic(ApicBus bus)
    {
        _bus = bus;
        _number = bus.Attach(this);
        Reset();
    }

    public string Name => "ioapic";

    public void Reset()
    {
        _select = _id = 0;
        _inputs = 0;
        Array.Fill(_table, Masked);
        for (int i = 0; i < Inputs; i++) Announce(i);
    }

    public void SetIrq(int input, bool level)
    {
        uint bit = 1u << input;
        bool rises = level && (_inputs & bit) == 0;
        _inputs = level ? _inputs | bit : _inputs & ~bit;
        if (rises) _counts[input]++;
        if (rises) Serve(input);                                   // a masked edge is lost, section 3.2.4, bit 16
    }

    public ulong Read(ulong offset, int size) => (offset & 0xFF) switch
    {
        RegisterSelect => _select,
        Window => ReadIndexed(),
        _ => 0,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        switch (offset & 0xFF)
        {
            case RegisterSelect: _select = (byte)value; break;
            case Window: WriteIndexed((uint)value); break;
            case Eoi: EndOfInterrupt((byte)value); break;
        }
    }

    /// <summary>A local APIC ended a level triggered interrupt.</summary>
    public void EndOfInterrupt(int vector)
    {
        for (int input = 0; input < Inputs; input++)
        {
            ulong entry = _table[input];
            if ((entry & (LevelTriggered | RemoteIrr)) != (LevelTriggered | RemoteIrr) || (byte)entry != vector)
                continue;
            _table[input] &= ~RemoteIrr;
            ServeLevel(input);
        }
    }

    /// <summary>The redirection table's entry, for `info pic`.</summary>
    public ulong Entry(int input) => _table[input];

    /// <summary>An edge of this input has been sent and no processor has taken it.</summary>
    public bool IsWaiting(int input)
    {
        ulong entry = _table[input];
        var mode = (DeliveryMode)(entry >> 8 & 7);
        return (entry & (Masked | LevelTriggered)) == 0 && mode is DeliveryMode.Fixed or DeliveryMode.LowestPriority
            && _bus.TryRoute(Address(entry), Data(entry), out InterruptMessage message, isQuestion: true)
            && _bus.IsWaiting(message);
    }

    public bool Input(int input) => (_inputs & 1u << input) != 0;

    public void Exchange(StateStream state)
    {
        state.Field("select", ref _select);
        state.Field("id", ref _id);
        state.Field("inputs", ref _inputs);
        for (int i = 0; i < Inputs; i++) state.Group("entry", i).Field("value", ref _table[i]);
        if (_inputs >> Inputs != 0) throw new InvalidStateException("ioapic: more inputs than there are");
        for (int i = 0; i < Inputs; i++) _table[i] &= Writable | RemoteIrr;
        for (int i = 0; i < Inputs && state.IsLoading; i++) Announce(i);
    }

    uint ReadIndexed()
    {
        if (_select is Id or ArbitrationId) return (uint)_id << 24;
        if (_select == Version) return VersionValue;
        int index = _select - RedirectionTable;
        if ((uint)index >= Inputs * 2) return 0;
        return (uint)(_table[index >> 1] >> (index & 1) * 32);
    }

    void WriteIndexed(uint value)
    {
        if (_select == Id) _id = (byte)(value >> 24 & 0x0F);
        int index = _select - RedirectionTable;
        if ((uint)index >= Inputs * 2) return;
        ref ulong entry = ref _table[index >> 1];
        int shift = (index & 1) * 32;
        ulong mask = Writable & 0xFFFFFFFFUL << shift;
        entry = entry & ~mask | (ulong)value << shift & mask;
        if ((entry & LevelTriggered) == 0) entry &= ~RemoteIrr;    // how drivers clear it without the EOI register
        Announce(index >> 1);
        ServeLevel(index >> 1);
    }

    /// <summary>To a kernel that has the local APICs: masked ones too, whose interrupt may not have ended.</summary>
    void Announce(int input)
    {
        ulong entry = _table[input];
        bool isLevel = (entry & LevelTriggered) != 0 && (DeliveryMode)(entry >> 8 & 7) <= DeliveryMode.LowestPriority;
        _bus.Watch(_number * Inputs + input, isLevel, Address(entry), Data(entry));
    }

    void ServeLevel(int input)
    {
        if ((_table[input] & LevelTriggered) != 0 && Input(input)) Serve(input);
    }

    void Serve(int input)
    {
        ulong entry = _table[input];
        if ((entry & Masked) != 0) return;
        bool level = (entry & LevelTriggered) != 0;
        var mode = (DeliveryMode)(entry >> 8 & 7);
        if (level && mode is DeliveryMode.Fixed or DeliveryMode.LowestPriority)
        {
            if ((entry & RemoteIrr) != 0) return;
            _table[input] |= RemoteIrr;
        }
        if (_bus.TryRoute(Address(entry), Data(entry), out InterruptMessage message)) _bus.Deliver(message);
    }

    // The message that an entry makes: Intel VT-d, order D51397, section 5.1.5.1 "I/OxAPIC Programming".

    static ulong Address(ulong entry) => ApicBus.MsiWindow | entry >> AddressShift & 0xF_FFF0
        | ((entry & LogicalDestination) != 0 ? ApicBus.LogicalDestination : 0);

    static uint Data(ulong entry) =>
        (uint)entry & VectorAndMode | ((entry & LevelTriggered) != 0 ? ApicBus.TriggerLevel : 0);
}
