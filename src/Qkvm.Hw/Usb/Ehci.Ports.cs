using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>Ports, and whose they are: this controller's or a companion's. Sections 2.3.9 and 4.2.</summary>
public sealed partial class Ehci
{
    const uint CCS = 1, CSC = 2, PED = 4, PEDC = 8, OCC = 32, FPR = 64, SUSP = 128, PR = 256, PP = 4096, PO = 8192,
        LineStatus = 0xC00, KState = 0x400, JState = 0x800, PortChanges = CSC | PEDC | OCC,
        PortWritable = PED | FPR | SUSP | PR | 0x1FF << 14 | PO;

    public void Attached(UsbPort port)
    {
        int i = port.Index;
        if ((_portsc[i] & PO) != 0 && _companions[i] is { } companion)
        {
            UsbDevice device = port.Device!;
            port.Restore(null);                                    // nobody has seen it here
            companion.Attach(device);
            return;
        }
        Connect(port);
        Apply();
    }

    public void Detached(UsbPort port)
    {
        ref uint portsc = ref _portsc[port.Index];
        if ((portsc & PED) != 0) portsc |= PEDC;
        portsc = portsc & ~(CCS | PED | SUSP | FPR | LineStatus) | CSC;
        _status |= PCD;
        Apply();
    }

    public void Wake(UsbPort port, UsbDevice device, byte endpoint)
    {
        ref uint portsc = ref _portsc[port.Index];
        if ((portsc & (SUSP | FPR)) == SUSP && device.MayWake)
        {
            portsc |= FPR;
            _status |= PCD;
            Apply();
        }
        _frames.Hurry();
    }

    public void Adopt(IReadOnlyList<UsbPort> ports, int first, Properties properties)
    {
        if (first + ports.Count > Ports)
            throw properties.Error($"firstport={first} must be between 0 and {Ports - ports.Count} on masterbus");
        for (int i = 0; i < ports.Count; i++)
            if (_companions[first + i] != null)
                throw properties.Error($"Port {first + i} on masterbus has a companion assigned already");
        for (int i = 0; i < ports.Count; i++)
        {
            UsbPort port = _ports[first + i];
            port.TakeCompanion(ports[i]);
            _companions[first + i] = ports[i];
            _portsc[first + i] |= PO;
            if (port.Device != null) Hand(port, ports[i]);
        }
    }

    public void Dismiss(IReadOnlyList<UsbPort> ports)
    {
        for (int i = 0; i < Ports; i++)
        {
            if (_companions[i] is not { } companion || !ports.Contains(companion)) continue;
            _companions[i] = null;
            _portsc[i] &= ~PO;
            if (companion.Device != null) Hand(companion, _ports[i]);
        }
    }

    /// <summary>CONFIGFLAG: clear, all ports are the companions'; set, each is the controller's until it gives it
    /// away.</summary>
    void Route(uint flag)
    {
        _configFlag = flag;
        for (int i = 0; i < Ports; i++) SetOwner(i, flag == 0 && _companions[i] != null);
    }

    void SetOwner(int i, bool isCompanions)
    {
        if ((_portsc[i] & PO) != 0 == isCompanions) return;
        UsbPort own = _ports[i], other = _companions[i] ?? own;
        if (isCompanions)
        {
            _portsc[i] |= PO;
            if (own.Device != null && other != own) Hand(own, other);
        }
        else
        {
            _portsc[i] &= ~PO;
            if (other.Device != null && other != own) Hand(other, own);
        }
    }

    /// <summary>To whoever has the port from now on, both see the device leave or come.</summary>
    static void Hand(UsbPort from, UsbPort to)
    {
        if (from.Device is not { } device) return;
        from.Detach();
        to.Attach(device);
    }

    void Connect(UsbPort port)
    {
        ref uint portsc = ref _portsc[port.Index];
        portsc = portsc & ~LineStatus | CCS | CSC | port.Device!.Speed switch
        {
            UsbSpeed.Low => KState,
            UsbSpeed.Full => JState,
            _ => 0,                                                // it is found by reset signalling
        };
        _status |= PCD;
    }

    void WritePort(int i, uint value)
    {
        UsbPort port = _ports[i];
        uint before = _portsc[i];
        if (((value ^ before) & PO) != 0 && _configFlag != 0 && _companions[i] != null)
        {
            SetOwner(i, (value & PO) != 0);
            before = _portsc[i];
        }
        uint writable = PortWritable & ~PO;
        uint now = before & ~writable & ~(value & PortChanges) | value & writable & ~PED | before & value & PED;
        if ((value & PR & ~before) != 0)
        {
            port.Reset();
            now &= ~(PED | SUSP | FPR);
        }
        else if ((before & ~value & PR) != 0 && port.Device is { Speed: UsbSpeed.High }) now = now & ~SUSP | PED;
        if ((before & ~value & FPR) != 0) now &= ~SUSP;            // resuming has ended (section 2.3.9)
        if ((now & PED) == 0) now &= ~SUSP;
        _portsc[i] = now;
        if ((now & PED) != 0) _frames.Hurry();
    }

    void ResetPorts()
    {
        for (int i = 0; i < Ports; i++)
        {
            _portsc[i] = PP | (_portsc[i] & PO);
            SetOwner(i, _companions[i] != null);
            _portsc[i] = PP | (_companions[i] != null ? PO : 0);
            _ports[i].Reset();
            if (_ports[i].Device != null) Connect(_ports[i]);
        }
    }

    /// <summary>The registers say where devices are; nobody hears of it.</summary>
    void RestoreOwners()
    {
        for (int i = 0; i < Ports; i++)
        {
            if (_companions[i] is not { } companion) continue;
            UsbDevice? device = _ports[i].Device ?? companion.Device;
            bool isCompanions = (_portsc[i] & PO) != 0;
            _ports[i].Restore(isCompanions ? null : device);
            companion.Restore(isCompanions ? device : null);
        }
    }

    UsbDevice? Find(byte address)
    {
        foreach (UsbPort port in _ports)
            if ((_portsc[port.Index] & (PED | SUSP)) == PED && port.Find(address) is { } device) return device;
        return null;
    }
}
