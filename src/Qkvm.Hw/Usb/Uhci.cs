using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>A USB 1.1 host controller with two ports. Spec: Universal Host Controller Interface Design Guide 1.1.
/// </summary>
/// <remarks>Deviations: data toggles are not compared; an error ends a descriptor at once, whatever its error counter
/// says; no legacy support registers.</remarks>
public sealed partial class Uhci : PciDevice, IRegisterBank, IUsbHost
{
    /// <summary>Those with a function's number in the name are the companions of an EHCI controller.</summary>
    public static readonly DeviceModel[] Models =
    [
        Family("piix3-usb-uhci", 0x7020, revision: 1, pin: 4), Family("piix4-usb-uhci", 0x7112, revision: 1, pin: 4),
        Family("ich9-usb-uhci1", 0x2934, revision: 3, pin: 1), Family("ich9-usb-uhci2", 0x2935, revision: 3, pin: 2),
        Family("ich9-usb-uhci3", 0x2936, revision: 3, pin: 3), Family("ich9-usb-uhci4", 0x2937, revision: 3, pin: 1),
        Family("ich9-usb-uhci5", 0x2938, revision: 3, pin: 2), Family("ich9-usb-uhci6", 0x2939, revision: 3, pin: 3),
    ];

    /// <summary>The board's own on pc.</summary>
    public static DeviceModel Piix3 => Models[0];

    // Registers, section 2.1
    const int USBCMD = 0, USBSTS = 2, USBINTR = 4, FRNUM = 6, FRBASEADD = 8, SOFMOD = 12, PORTSC1 = 16;
    public const int Ports = 2;
    const int RegionSize = 32, IoBar = 4, ReleaseNumber = 0x60, InterruptPin = 0x3D;
    const ushort RS = 1, HCRESET = 2, GRESET = 4, EGSM = 8, FGR = 16, CommandBits = 0xFF;             // USBCMD
    const ushort USBINT = 1, ERROR = 2, RESUME = 4, HSE = 8, HCPE = 16, HALTED = 32, ClearableStatus = 31;  // USBSTS
    const ushort TimeoutEnable = 1, ResumeEnable = 2, CompleteEnable = 4, ShortEnable = 8;            // USBINTR
    const ushort CCS = 1, CSC = 2, PE = 4, PEC = 8, RD = 0x40, One = 0x80, LSDA = 0x100, PR = 0x200, SUSP = 0x1000;
    const ushort LineStatus = 0x30, DPlus = 0x10, DMinus = 0x20, PortChanges = CSC | PEC,
        PortWritable = PE | RD | PR | SUSP;
    const byte UsbRelease1 = 0x10, DefaultSof = 0x40;
    const uint BaseMask = 0xFFFF_F000;

    readonly UsbPort[] _ports;
    readonly UsbFrames _frames;
    readonly UsbFlights _transfers;
    readonly ushort[] _portsc = new ushort[Ports];
    readonly int _bandwidth;                                       // bytes of a frame
    ushort _command, _status, _enable;
    uint _base;
    byte _sof;
    bool _completed, _wasShort;                                    // why USBINT is set

    Uhci(string name, PciIdentity identity, byte pin, Properties properties, DeviceSite site) : base(identity, name)
    {
        _bandwidth = (int)properties.Number("bandwidth");
        _ports = [.. Enumerable.Range(0, Ports).Select(i =>
            new UsbPort(this, i, UsbSpeeds.Low | UsbSpeeds.Full, $"{i + 1}"))];
        _frames = new UsbFrames(site.Clock, RunFrame, LookAgain);
        _transfers = new UsbFlights(LongestPacket, _frames.LookAgain);
        Config.Define(InterruptPin, pin);
        Config.Define(ReleaseNumber, UsbRelease1);
        Bar(IoBar, MemoryRegion.Io("uhci", RegionSize, this, AccessSizes.UpToDword), BarKind.Io);
        ResetHost();
    }

    static DeviceModel Family(string name, ushort id, byte revision, byte pin)
    {
        const ushort intel = 0x8086;
        const uint uhci = 0x0C0300;
        bool isCompanion = name.StartsWith("ich9", StringComparison.Ordinal);
        Property[] own =
        [
            Property.Number("bandwidth", 1280, min: 64, max: 4096, help: "bytes of a frame"),
            Property.Number("maxframes", 128, min: 1, max: 128, help: "taken, and 128"),
            .. isCompanion ? UsbCompanion.Own : [],
        ];
        return new(name, BusKind.Pci, own, (properties, site) =>
        {
            var controller = new Uhci(name, new PciIdentity(intel, id, uhci, revision), pin, properties, site);
            if (!isCompanion || !UsbCompanion.Join(controller._ports, properties, site))
                UsbBus.Of(site, controller._ports);
            return controller;
        }) { Category = DeviceCategory.Controller, IsHotPluggable = false };
    }

    public ulong Read(ulong offset, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++)
        {
            int at = (int)offset + i;
            value |= (ulong)(byte)(ReadWord(at & ~1) >> (at & 1) * 8) << i * 8;
        }
        return value;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        int at = (int)offset;
        if (at is >= FRBASEADD and < SOFMOD)
        {
            ulong mask = ((1UL << size * 8) - 1) << (at & 3) * 8;
            _base = (uint)(_base & ~mask | value << (at & 3) * 8 & mask) & BaseMask;
        }
        else if (at == SOFMOD) _sof = (byte)value;
        else
            for (int i = 0; i < size; i += 2)                      // a byte is taken as a word, as in QEMU
                WriteWord(at + i & ~1, (ushort)(value >> i * 8));
    }

    protected override void ResetDevice() => ResetHost();

    protected override void OnConfigWritten(int offset, int size) => Apply();

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("command", ref _command);
        state.Field("status", ref _status);
        state.Field("enable", ref _enable);
        state.Field("base", ref _base);
        state.Field("sof", ref _sof);
        state.Field("completed", ref _completed);
        state.Field("short", ref _wasShort);
        for (int i = 0; i < Ports; i++) state.Group("port", i).Field("portsc", ref _portsc[i]);
        _frames.Exchange(state.Group("frames"));
        _base &= BaseMask;
        // what was under way is carried out anew: its descriptor is still active
        if (state.IsLoading) _transfers.CancelAll();
    }

    ushort ReadWord(int at) => at switch
    {
        USBCMD => _command,
        USBSTS => _status,
        USBINTR => _enable,
        FRNUM => (ushort)_frames.Current,
        FRBASEADD => (ushort)_base,
        FRBASEADD + 2 => (ushort)(_base >> 16),
        SOFMOD => _sof,
        PORTSC1 => _portsc[0],
        PORTSC1 + 2 => _portsc[1],
        _ => at > PORTSC1 ? (ushort)0xFF7F : (ushort)0,            // no more ports
    };

    void WriteWord(int at, ushort value)
    {
        switch (at)
        {
            case USBCMD: WriteCommand(value); break;
            case USBSTS:
                _status &= (ushort)~(value & ClearableStatus);
                if ((_status & USBINT) == 0) _completed = _wasShort = false;
                break;
            case USBINTR: _enable = (ushort)(value & 15); break;
            case FRNUM when (_status & HALTED) != 0: _frames.Number = value; break;
            case PORTSC1 or PORTSC1 + 2: WritePort((at - PORTSC1) / 2, value); break;
        }
        Apply();
    }

    void WriteCommand(ushort value)
    {
        if ((value & HCRESET) != 0)
        {
            ResetHost();
            return;
        }
        if ((value & GRESET & ~_command) != 0)
        {
            foreach (UsbPort port in _ports) port.Reset();
            ResetHost();
        }
        _command = (ushort)(value & CommandBits);
        if ((_command & RS) != 0)
        {
            _status &= unchecked((ushort)~HALTED);
            _frames.Start();
        }
        else Halt();
    }

    void Halt()
    {
        _frames.Stop();
        _transfers.CancelAll();
        _status |= HALTED;
    }

    void ResetHost()
    {
        _frames.Reset();
        _transfers.CancelAll();
        (_command, _status, _enable, _base, _sof) = (0, HALTED, 0, 0, DefaultSof);
        _completed = _wasShort = false;
        foreach (UsbPort port in _ports)
        {
            _portsc[port.Index] = One;
            port.Reset();
            if (port.Device != null) Connect(port);
        }
        Apply();
    }

    void Apply()
    {
        bool level = (_completed && (_enable & CompleteEnable) != 0) || (_wasShort && (_enable & ShortEnable) != 0)
            || ((_status & ERROR) != 0 && (_enable & TimeoutEnable) != 0)
            || ((_status & RESUME) != 0 && (_enable & ResumeEnable) != 0) || (_status & (HSE | HCPE)) != 0;
        IntX.Set(level);
    }
}
