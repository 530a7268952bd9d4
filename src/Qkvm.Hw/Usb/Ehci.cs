using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>A USB 2.0 host controller with six ports, which companions share. Spec: Enhanced Host Controller Interface
/// Specification for Universal Serial Bus 1.0.</summary>
/// <remarks>Deviations: data toggles and NAK counters are not compared; an error ends a descriptor at once, whatever
/// its error counter says; a descriptor is carried out as one transfer; split transactions do not happen, as in QEMU;
/// interrupts are not held back by the threshold; a periodic queue head is served once in its frame.</remarks>
public sealed partial class Ehci : PciDevice, IRegisterBank, IUsbHost, IUsbCompanions
{
    public static readonly DeviceModel[] Models =
    [
        Family("usb-ehci", 0x24CD, revision: 0x10), Family("ich9-usb-ehci1", 0x293A, revision: 3),
        Family("ich9-usb-ehci2", 0x293C, revision: 3),
    ];

    /// <summary>The board's own on q35.</summary>
    public static DeviceModel Ich9 => Models[1];

    // Registers, chapter 2; operational ones from CAPLENGTH on
    const int HCSPARAMS = 4, HCCPARAMS = 8, Operational = 0x20;
    const int USBCMD = 0x00, USBSTS = 0x04, USBINTR = 0x08, FRINDEX = 0x0C, PERIODICLISTBASE = 0x14,
        ASYNCLISTADDR = 0x18, CONFIGFLAG = 0x40, PORTSC = 0x44;
    public const int Ports = 6;
    const int RegionSize = 0x1000, InterruptPin = 0x3D, ReleaseNumber = 0x60, LegacySupport = 0x68;
    const byte PinD = 4, UsbRelease2 = 0x20, FrameLength = 0x20;
    const uint Capability = 0x0100_0000 | Operational, CapabilityParameters = 0x6880; // EECP at 68h, frames are cached
    const int PortsPerCompanion = 8, CompanionCount = 12;             // of HCSPARAMS

    const uint RS = 1, HCRESET = 2, FrameListSize = 3 << 2, PSE = 1 << 4, ASE = 1 << 5, IAAD = 1 << 6,
        CommandReset = 8 << 16, CommandWritable = RS | FrameListSize | PSE | ASE | 0xFF << 16;          // USBCMD
    const uint INT = 1, ERRINT = 2, PCD = 4, FLR = 8, HSE = 16, IAA = 32, ClearableStatus = 63, HALTED = 1 << 12,
        PSS = 1 << 14, ASS = 1 << 15;                              // USBSTS

    readonly UsbPort[] _ports;
    readonly UsbPort?[] _companions = new UsbPort?[Ports];
    readonly UsbFrames _frames;
    readonly UsbFlights _flights;
    readonly uint[] _portsc = new uint[Ports];
    uint _command, _status, _enable, _periodicBase, _asyncAddress, _configFlag;
    int _micro;                                                    // not migrated: of a FRINDEX while halted

    Ehci(string name, PciIdentity identity, DeviceSite site) : base(identity, name)
    {
        _ports = [.. Enumerable.Range(0, Ports).Select(i => new UsbPort(this, i, UsbSpeeds.High, $"{i + 1}"))];
        _frames = new UsbFrames(site.Clock, RunFrame, LookAgain, microframes: Microframes);
        _flights = new UsbFlights(LongestTransfer, _frames.LookAgain);
        Config.Define(InterruptPin, PinD);
        Config.Define(ReleaseNumber, UsbRelease2);
        Config.Define(ReleaseNumber + 1, FrameLength, 0x3F);
        Config.Define(LegacySupport, 1);
        Config.Define(LegacySupport + 3, 0, 1);                    // the system owns it; firmware never does
        Config.Define32(LegacySupport + 4, 0xC000_0000);
        Bar(0, MemoryRegion.Io("ehci", RegionSize, this, AccessSizes.Dwords), BarKind.Memory32);
        ResetHost();
    }

    static DeviceModel Family(string name, ushort id, byte revision)
    {
        const ushort intel = 0x8086;
        const uint ehci = 0x0C0320;
        return new(name, BusKind.Pci, [Property.Number("maxframes", 128, min: 128, max: 128)], (_, site) =>
        {
            var controller = new Ehci(name, new PciIdentity(intel, id, ehci, revision), site);
            UsbBus.Of(site, controller._ports, controller);
            return controller;
        }) { Category = DeviceCategory.Controller, IsHotPluggable = false };
    }

    public ulong Read(ulong offset, int size)
    {
        int at = (int)offset;
        if (at >= Operational) return ReadOperational(at - Operational);
        return at switch
        {
            0 => Capability,
            HCSPARAMS => HostParameters,
            HCCPARAMS => CapabilityParameters,
            _ => 0,
        };
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset < Operational) return;
        int at = (int)offset - Operational;
        uint data = (uint)value;
        switch (at)
        {
            case USBCMD: WriteCommand(data); break;
            case USBSTS: _status &= ~(data & ClearableStatus); break;
            case USBINTR: _enable = data & ClearableStatus; break;
            case FRINDEX when !_frames.IsRunning:
                (_frames.Number, _micro) = ((int)(data >> 3), (int)data & 7);
                break;
            case PERIODICLISTBASE: _periodicBase = data & ~0xFFFu; break;
            case ASYNCLISTADDR: _asyncAddress = data & ~0x1Fu; break;
            case CONFIGFLAG: Route(data & 1); break;
            case >= PORTSC when (at - PORTSC) / 4 < Ports: WritePort((at - PORTSC) / 4, data); break;
        }
        Apply();
    }

    protected override void ResetDevice() => ResetHost();

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("command", ref _command);
        state.Field("status", ref _status);
        state.Field("enable", ref _enable);
        state.Field("periodic", ref _periodicBase);
        state.Field("async", ref _asyncAddress);
        state.Field("config-flag", ref _configFlag);
        for (int i = 0; i < Ports; i++) state.Group("port", i).Field("portsc", ref _portsc[i]);
        _frames.Exchange(state.Group("frames"));
        (_periodicBase, _asyncAddress) = (_periodicBase & ~0xFFFu, _asyncAddress & ~0x1Fu);
        _configFlag &= 1;
        if (!state.IsLoading) return;
        _micro = 0;
        _flights.CancelAll();                                      // carried out anew: their descriptors are active
        RestoreOwners();
    }

    uint HostParameters
    {
        get
        {
            int[] companions =
                [.. _companions.OfType<UsbPort>().GroupBy(port => port.Host).Select(ports => ports.Count())];
            return Ports | (uint)companions.Length << CompanionCount
                | (uint)companions.DefaultIfEmpty().Max() << PortsPerCompanion;
        }
    }

    uint ReadOperational(int at) => at switch
    {
        USBCMD => _command,
        USBSTS => _status | (_frames.IsRunning ? 0 : HALTED)
            | (_frames.IsRunning && (_command & PSE) != 0 ? PSS : 0)
            | (_frames.IsRunning && (_command & ASE) != 0 ? ASS : 0),
        USBINTR => _enable,
        FRINDEX => (uint)(_frames.Current << 3
            | (_frames.IsRunning ? (int)(_frames.Within * 8 / UsbFrames.Frame) : _micro)),
        PERIODICLISTBASE => _periodicBase,
        ASYNCLISTADDR => _asyncAddress,
        CONFIGFLAG => _configFlag,
        >= PORTSC when (at - PORTSC) / 4 < Ports => _portsc[(at - PORTSC) / 4],
        _ => 0,
    };

    void WriteCommand(uint value)
    {
        if ((value & HCRESET) != 0)
        {
            ResetHost();
            return;
        }
        _command = value & CommandWritable;
        if ((value & RS) != 0)
        {
            _frames.Start();
            if ((value & IAAD) != 0) Advance();
            _frames.Hurry();
        }
        else if (_frames.IsRunning)
        {
            _frames.Stop();
            _flights.CancelAll();
        }
    }

    /// <summary>Section 4.8.2: what the schedule does not lead to any more is let go.</summary>
    void Advance()
    {
        if ((_command & ASE) != 0)
        {
            _flights.Sweep(int.MaxValue);
            WalkAsync();
            _flights.Sweep(0);
        }
        _status |= IAA;
    }

    void ResetHost()
    {
        _frames.Reset();
        _flights.CancelAll();
        (_command, _status, _enable, _periodicBase, _asyncAddress, _configFlag) = (CommandReset, 0, 0, 0, 0, 0);
        _micro = 0;
        ResetPorts();
        Apply();
    }

    void Apply() => IntX.Set((_status & _enable & ClearableStatus) != 0);
}
