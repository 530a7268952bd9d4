using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Core.Usb;
using static Qkvm.Hw.Usb.XhciRegisters;

namespace Qkvm.Hw.Usb;

/// <summary>What a user may choose of a controller.</summary>
public sealed record XhciOptions(PciIdentity Identity, int Usb2Ports = 4, int Usb3Ports = 4, int Interrupters = 16,
    int Slots = 64, bool HasMsiX = true);

/// <summary>A USB 3 host controller. Spec: eXtensible Host Controller Interface 1.2; names are its.</summary>
/// <remarks>A guest's rings are read as far as a turn goes (<see cref="Turn"/>), and in the next turn from there on.
/// Deviations: no streams, no isochronous schedule (such transfers are made at once), no interrupt moderation; an event
/// that finds no room in its ring is lost; save and restore of internal state (CSS, CRS) do nothing; no debug
/// capability; one segment in an event ring.</remarks>
public sealed partial class Xhci : PciDevice, IRegisterBank, IUsbHost
{
    /// <summary>Commands, or descriptors of one endpoint, that are looked at before others have their turn.</summary>
    const int Turn = 128;

    readonly XhciOptions _options;
    readonly IVirtualClock _clock;
    readonly IVmTimer _goOn;
    readonly UsbPort[] _ports;                                     // what users plug into: each has two registers
    readonly uint[] _portsc;                                       // USB 3's first
    readonly XhciInterrupter[] _interrupters;
    readonly XhciSlot[] _slots;                                    // from number 1 on
    readonly XhciRing _commands;
    uint _command, _status, _notifications, _config;
    ulong _commandRing, _contexts;                                 // CRCR, DCBAAP
    bool _commandsRun;                                             // CRR

    public Xhci(string name, XhciOptions options, IVirtualClock clock) : base(options.Identity, name)
    {
        (_options, _clock) = (options, clock);
        _goOn = clock.CreateTimer(GoOn);
        _ports = [.. Enumerable.Range(0, Math.Max(options.Usb2Ports, options.Usb3Ports)).Select(i =>
            new UsbPort(this, i, (i < options.Usb2Ports ? UsbSpeeds.Low | UsbSpeeds.Full | UsbSpeeds.High : 0)
                | (i < options.Usb3Ports ? UsbSpeeds.Super : 0), $"{i + 1}"))];
        _portsc = new uint[options.Usb2Ports + options.Usb3Ports];
        _interrupters = [.. Enumerable.Range(0, options.Interrupters).Select(_ => new XhciInterrupter())];
        _slots = [.. Enumerable.Range(1, options.Slots).Select(number => new XhciSlot(this, (byte)number))];
        _commands = new XhciRing();
        const int minorVersion = 0x60;                             // SBRN, section 5.2.3
        Config.Define(minorVersion, 0x30);
        MemoryRegion registers = MemoryRegion.Container(name, RegionSize);
        registers.Map(0, MemoryRegion.Io($"{name}-registers", MsiXTable, this, new AccessSizes(1, 8, 4, 4)));
        if (options.HasMsiX)
        {
            MsiX = new MsiX(this, options.Interrupters, 0, MsiXTable, MsiXPending);
            registers.Map(MsiXTable, MsiX.TableRegion);
            registers.Map(MsiXPending, MsiX.PendingRegion);
        }
        Bar(0, registers, BarKind.Memory64);
        ResetHost();
    }

    public IReadOnlyList<UsbPort> Ports => _ports;
    internal bool IsRunning => (_command & Run) != 0 && (_status & (HostError | ControllerError)) == 0;

    public ulong Read(ulong offset, int size) => (uint)offset switch
    {
        < Operational => Capability((uint)offset),
        < Operational + PortRegisters => ReadOperational((uint)offset - Operational),
        < Runtime => ReadPort((uint)offset - Operational - PortRegisters),
        < Doorbells => ReadRuntime((uint)offset - Runtime),
        _ => 0,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        switch ((uint)offset)
        {
            case < Operational: break;
            case < Operational + PortRegisters: WriteOperational((uint)offset - Operational, (uint)value); break;
            case < Runtime: WritePort((uint)offset - Operational - PortRegisters, (uint)value); break;
            case < Doorbells: WriteRuntime((uint)offset - Runtime, (uint)value); break;
            default: Ring((uint)offset - Doorbells, (uint)value); break;
        }
    }

    /// <summary>Sections 5.3 and 7.2.</summary>
    uint Capability(uint offset) => offset switch
    {
        0x00 => InterfaceVersion << 16 | Operational,
        0x04 => (uint)_portsc.Length << 24 | (uint)_interrupters.Length << 8 | (uint)_slots.Length,
        0x08 => 0xF,                                               // IST; ERST has one segment
        0x10 => FirstExtended / 4 << 16 | 1,                       // AC64
        0x14 => Doorbells,
        0x18 => Runtime,
        0x20 => 0x0300_0002 | 4 << 8, 0x30 => 0x0200_0002,         // Supported Protocol, the next 4 double words on
        0x24 or 0x34 => UsbName,
        0x28 => (uint)(1 | _options.Usb3Ports << 8),
        0x38 => (uint)(1 + _options.Usb3Ports | _options.Usb2Ports << 8),
        _ => 0,
    };

    uint ReadOperational(uint offset) => offset switch
    {
        UsbCommand => _command,
        UsbStatusRegister => _status,
        PageSize => 1,
        Notifications => _notifications,
        CommandRing => _commandsRun ? CommandRingRunning : 0,      // the rest reads as 0 (section 5.4.5)
        ContextArray => (uint)_contexts,
        ContextArray + 4 => (uint)(_contexts >> 32),
        Configure => _config,
        _ => 0,
    };

    void WriteOperational(uint offset, uint value)
    {
        switch (offset)
        {
            case UsbCommand: WriteCommand(value); break;
            case UsbStatusRegister:
                _status &= ~(value & (HostError | EventInterrupt | PortChange | SaveError));
                UpdateIntX();
                break;
            case Notifications: _notifications = value & 0xFFFF; break;
            case CommandRing: WriteCommandRing(_commandRing & ~0xFFFF_FFFFul | value, isLow: true); break;
            case CommandRing + 4:
                WriteCommandRing(_commandRing & 0xFFFF_FFFF | (ulong)value << 32, isLow: false);
                break;
            case ContextArray: _contexts = _contexts & ~0xFFFF_FFFFul | value & ~0x3Fu; break;
            case ContextArray + 4: _contexts = _contexts & 0xFFFF_FFFF | (ulong)value << 32; break;
            case Configure: _config = value & 0xFF; break;
        }
    }

    void WriteCommand(uint value)
    {
        bool wasRunning = (_command & Run) != 0;
        if ((value & HostReset) != 0)
        {
            ResetHost();
            return;
        }
        _command = value & CommandWritable;
        _status = (_command & Run) != 0 ? _status & ~Halted : _status | Halted;
        if (wasRunning && (_command & Run) == 0) _commandsRun = false;
        if (!wasRunning && IsRunning) GoOnSoon();
        UpdateIntX();
    }

    /// <summary>Section 5.4.5: stop and abort of a ring that runs, or where the next one is.</summary>
    void WriteCommandRing(ulong value, bool isLow)
    {
        const uint stop = 2, abort = 4;
        if (_commandsRun)
        {
            if (!isLow || (value & (stop | abort)) == 0) return;
            _commandsRun = false;
            Tell(0, new XhciTrb(_commands.Dequeue, CompletionCode(CommandRingStopped), CommandCompletion << 10));
            return;
        }
        _commandRing = value;
        _commands.Start(value & ~0x3Ful, (value & 1) != 0);
    }

    /// <summary>What is beyond repair: the driver resets the controller (section 4.10.2.6).</summary>
    internal void Die() => _status |= ControllerError;

    internal void GoOnSoon() => _goOn.ArmAt(_clock.Nanoseconds);

    void GoOn()
    {
        if (!IsRunning) return;
        if (_commandsRun) RunCommands();
        foreach (XhciSlot slot in _slots) slot.GoOn();
    }

    protected override void ResetDevice() => ResetHost();

    void ResetHost()
    {
        foreach (XhciSlot slot in _slots) slot.Disable();
        foreach (XhciInterrupter interrupter in _interrupters) interrupter.Reset();
        (_command, _status, _notifications, _config) = (0, Halted, 0, 0);
        (_commandRing, _contexts, _commandsRun) = (0, 0, false);
        _commands.Start(0, false);
        _goOn.Cancel();
        for (int i = 0; i < _portsc.Length; i++) _portsc[i] = PortPower | RxDetect;
        foreach (UsbPort port in _ports)
            if (port.Device != null)
            {
                port.Reset();
                Connect(port);
            }
        UpdateIntX();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("command", ref _command);
        state.Field("status", ref _status);
        state.Field("notifications", ref _notifications);
        state.Field("config", ref _config);
        state.Field("command-ring", ref _commandRing);
        state.Field("contexts", ref _contexts);
        state.Field("commands-run", ref _commandsRun);
        _commands.Exchange(state.Group("commands"));
        for (int i = 0; i < _portsc.Length; i++) state.Group("port", i).Field("portsc", ref _portsc[i]);
        for (int i = 0; i < _interrupters.Length; i++) _interrupters[i].Exchange(state.Group("interrupter", i));
        for (int i = 0; i < _slots.Length; i++) _slots[i].Exchange(state.Group("slot", i));
        if (state.IsLoading && IsRunning) GoOnSoon();
    }
}
