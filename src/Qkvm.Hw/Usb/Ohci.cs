using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>A USB 1.1 host controller with up to fifteen ports. Spec: Open Host Controller Interface Specification for
/// USB 1.0a.</summary>
/// <remarks>Deviations: a frame lasts a millisecond whatever HcFmInterval says; data toggles are counted, not
/// compared; an error ends a descriptor at once, whatever its error counter says; a descriptor is carried out as one
/// transfer; the control and the bulk list are walked whole, from their heads, as soon as they are filled; resets and
/// resumes take no time; ports always have power, and the root hub's descriptors can't be written; no legacy support
/// registers.</remarks>
public sealed partial class Ohci : PciDevice, IRegisterBank, IUsbHost
{
    public static readonly DeviceModel Model = new("pci-ohci", BusKind.Pci,
        [Property.Number("num-ports", 3, min: 1, max: MostPorts), .. UsbCompanion.Own], static (properties, site) =>
        {
            var controller = new Ohci((int)properties.Number("num-ports"), site);
            if (!UsbCompanion.Join(controller._ports, properties, site)) UsbBus.Of(site, controller._ports);
            return controller;
        }) { Category = DeviceCategory.Controller, IsHotPluggable = false, Description = "Apple USB Controller" };

    // Registers, chapter 7
    const int HcRevision = 0x00, HcControl = 0x04, HcCommandStatus = 0x08, HcInterruptStatus = 0x0C,
        HcInterruptEnable = 0x10, HcInterruptDisable = 0x14, HcHCCA = 0x18, HcPeriodCurrentED = 0x1C,
        HcControlHeadED = 0x20, HcControlCurrentED = 0x24, HcBulkHeadED = 0x28, HcBulkCurrentED = 0x2C,
        HcDoneHead = 0x30, HcFmInterval = 0x34, HcFmRemaining = 0x38, HcFmNumber = 0x3C, HcPeriodicStart = 0x40,
        HcLSThreshold = 0x44, HcRhDescriptorA = 0x48, HcRhDescriptorB = 0x4C, HcRhStatus = 0x50, HcRhPortStatus = 0x54;
    const int RegionSize = 0x100, MostPorts = 15, InterruptPin = 0x3D;
    const byte PinA = 1;
    const uint Revision = 0x10;

    const uint PLE = 1 << 2, IE = 1 << 3, CLE = 1 << 4, BLE = 1 << 5, HCFS = 3 << 6, IR = 1 << 8, RWC = 1 << 9,
        RWE = 1 << 10, ControlBits = 0x7FF;                        // HcControl
    const uint UsbReset = 0, UsbResume = 1 << 6, UsbOperational = 2 << 6, UsbSuspend = 3 << 6;        // its HCFS
    const uint HCR = 1, CLF = 2, BLF = 4;                          // HcCommandStatus
    const uint SO = 1, WDH = 2, SF = 4, RD = 8, UE = 16, FNO = 32, RHSC = 64, OC = 1 << 30, MIE = 1u << 31,
        Events = SO | WDH | SF | RD | UE | FNO | RHSC | OC;        // HcInterruptStatus and HcInterruptEnable
    const uint FrameLength = 0x2EDF, LargestPacket = 0x2778u << 16, FIT = 1u << 31, FrameLengthMask = 0x3FFF;
    const uint LowSpeedThreshold = 0x628, HccaMask = 0xFFFF_FF00, DescriptorMask = ~15u;
    const byte NoDelay = 0, NoInterrupt = 7;                       // of descriptors that are done

    readonly UsbPort[] _ports;
    readonly uint[] _portStatus;
    readonly UsbFrames _frames;
    readonly UsbFlights _flights;
    uint _control, _commandStatus, _interruptStatus, _interruptEnable, _hcca, _controlHead, _bulkHead, _doneHead,
        _frameInterval, _periodicStart, _threshold;
    bool _frameToggle, _wakesOnConnect;
    byte _doneDelay;                                               // frames until the done descriptors are handed over

    Ohci(int ports, DeviceSite site) : base(new PciIdentity(0x106B, 0x003F, 0x0C0310, 0), Model.Name)
    {
        _ports = [.. Enumerable.Range(0, ports).Select(i =>
            new UsbPort(this, i, UsbSpeeds.Low | UsbSpeeds.Full, $"{i + 1}"))];
        _portStatus = new uint[ports];
        _frames = new UsbFrames(site.Clock, RunFrame, LookAgain, bits: 16);
        _flights = new UsbFlights(LongestTransfer, _frames.LookAgain);
        Config.Define(InterruptPin, PinA);
        Bar(0, MemoryRegion.Io("ohci", RegionSize, this, AccessSizes.Dwords), BarKind.Memory32);
        ResetHost(UsbReset);
    }

    public ulong Read(ulong offset, int size) => (int)offset switch
    {
        HcRevision => Revision,
        HcControl => _control,
        HcCommandStatus => _commandStatus,
        HcInterruptStatus => _interruptStatus,
        HcInterruptEnable or HcInterruptDisable => _interruptEnable,
        HcHCCA => _hcca,
        HcControlHeadED => _controlHead,
        HcBulkHeadED => _bulkHead,
        HcDoneHead => _doneHead,
        HcFmInterval => _frameInterval,
        HcFmRemaining => FrameRemaining,
        HcFmNumber => (uint)_frames.Current,
        HcPeriodicStart => _periodicStart,
        HcLSThreshold => _threshold,
        HcRhDescriptorA => NPS | (uint)_ports.Length,
        HcRhStatus => _wakesOnConnect ? DRWE : 0,
        var at and >= HcRhPortStatus when PortOf(at) is { } i => _portStatus[i],
        _ => 0,                                                    // nothing is under way between two frames
    };

    public void Write(ulong offset, int size, ulong value)
    {
        uint data = (uint)value;
        switch ((int)offset)
        {
            case HcControl: WriteControl(data); break;
            case HcCommandStatus: WriteCommand(data); break;
            case HcInterruptStatus: _interruptStatus &= ~data; break;
            case HcInterruptEnable:
                _interruptEnable |= data & (Events | MIE);
                if ((data & SF) != 0) _frames.Hurry();             // frames are counted now
                break;
            case HcInterruptDisable: _interruptEnable &= ~data; break;
            case HcHCCA: _hcca = data & HccaMask; break;
            case HcControlHeadED: _controlHead = data & DescriptorMask; break;
            case HcBulkHeadED: _bulkHead = data & DescriptorMask; break;
            case HcFmInterval: _frameInterval = data; break;
            case HcPeriodicStart: _periodicStart = data & FrameLengthMask; break;
            case HcLSThreshold: _threshold = data & 0xFFF; break;
            case HcRhStatus: _wakesOnConnect = (_wakesOnConnect || (data & DRWE) != 0) && (data & CRWE) == 0; break;
            case var at and >= HcRhPortStatus when PortOf(at) is { } i: WritePort(i, data); break;
        }
        Apply();
    }

    protected override void ResetDevice() => ResetHost(UsbReset);

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("control", ref _control);
        state.Field("command-status", ref _commandStatus);
        state.Field("interrupt-status", ref _interruptStatus);
        state.Field("interrupt-enable", ref _interruptEnable);
        state.Field("hcca", ref _hcca);
        state.Field("control-head", ref _controlHead);
        state.Field("bulk-head", ref _bulkHead);
        state.Field("done-head", ref _doneHead);
        state.Field("done-delay", ref _doneDelay);
        state.Field("frame-interval", ref _frameInterval);
        state.Field("frame-toggle", ref _frameToggle);
        state.Field("periodic-start", ref _periodicStart);
        state.Field("threshold", ref _threshold);
        state.Field("wakes-on-connect", ref _wakesOnConnect);
        for (int i = 0; i < _ports.Length; i++) state.Group("port", i).Field("status", ref _portStatus[i]);
        _frames.Exchange(state.Group("frames"));
        if (_doneDelay > NoInterrupt) throw state.Refuse("done-delay", $"{_doneDelay} frames");
        _hcca &= HccaMask;
        _controlHead &= DescriptorMask;
        _bulkHead &= DescriptorMask;
        _doneHead &= DescriptorMask;
        if (state.IsLoading) _flights.CancelAll();                 // carried out anew: their descriptors stand
    }

    int? PortOf(int at) => (at - HcRhPortStatus) / 4 is var i && i < _ports.Length ? i : null;

    /// <summary>Bit times until the frame ends, section 7.3.2.</summary>
    uint FrameRemaining
    {
        get
        {
            uint length = _frameInterval & FrameLengthMask, toggle = _frameToggle ? FIT : 0;
            return !_frames.IsRunning ? toggle : toggle | (uint)(length - length * _frames.Within / UsbFrames.Frame);
        }
    }

    void WriteControl(uint value)
    {
        uint before = _control & HCFS;
        _control = value & ControlBits & ~IR;
        uint now = _control & HCFS;
        if (now == before) return;
        switch (now)
        {
            case UsbOperational: _frames.Start(); break;
            case UsbReset:
                StopFrames();
                foreach (UsbPort port in _ports) ResetPort(port);
                break;
            default: StopFrames(); break;
        }
    }

    void WriteCommand(uint value)
    {
        if ((value & HCR) != 0) ResetHost(UsbSuspend);
        else if ((value & (CLF | BLF)) != 0)
        {
            _commandStatus |= value & (CLF | BLF);
            _frames.LookAgain();
        }
    }

    /// <param name="state">Section 6.2.1: what hardware does is a reset of the bus, software's suspends it.</param>
    void ResetHost(uint state)
    {
        _frames.Reset();
        _flights.CancelAll();
        _control = state;
        (_commandStatus, _interruptStatus, _interruptEnable, _hcca) = (0, 0, 0, 0);
        (_controlHead, _bulkHead, _doneHead, _doneDelay) = (0, 0, 0, NoInterrupt);
        (_frameInterval, _periodicStart, _threshold) = (LargestPacket | FrameLength, 0, LowSpeedThreshold);
        (_frameToggle, _wakesOnConnect) = (false, false);
        if (state == UsbReset)
            foreach (UsbPort port in _ports) ResetPort(port);
        Apply();
    }

    void StopFrames()
    {
        _frames.Stop();
        _flights.CancelAll();
    }

    void Apply() => IntX.Set((_interruptEnable & MIE) != 0 && (_interruptStatus & _interruptEnable & Events) != 0);
}
