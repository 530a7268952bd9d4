using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>The root hub. Section 7.4.</summary>
public sealed partial class Ohci
{
    const uint NPS = 1 << 9;                                       // HcRhDescriptorA: no power switching
    const uint DRWE = 1 << 15, CRWE = 1u << 31;                    // HcRhStatus

    // HcRhPortStatus: what is read, and what a write of a one does
    const uint CCS = 1, PES = 2, PSS = 4, PPS = 1 << 8, LSDA = 1 << 9, CSC = 1 << 16, PESC = 1 << 17, PSSC = 1 << 18,
        OCIC = 1 << 19, PRSC = 1 << 20, Changes = CSC | PESC | PSSC | OCIC | PRSC;
    const uint ClearPortEnable = 1, SetPortEnable = 2, SetPortSuspend = 4, ClearSuspendStatus = 8, SetPortReset = 16;

    public void Attached(UsbPort port)
    {
        Connect(port);
        Notice();
        if (_wakesOnConnect) Resume();
        Apply();
    }

    public void Detached(UsbPort port)
    {
        ref uint status = ref _portStatus[port.Index];
        if ((status & PES) != 0) status |= PESC;
        status = status & ~(CCS | PES | PSS | LSDA) | CSC;
        Notice();
        if (_wakesOnConnect) Resume();
        Apply();
    }

    public void Wake(UsbPort port, UsbDevice device, byte endpoint)
    {
        ref uint status = ref _portStatus[port.Index];
        if (device.MayWake && (status & PSS) != 0)
        {
            status = status & ~PSS | PSSC;
            Notice();
        }
        if (device.MayWake && (status & PES) != 0) Resume();
        Apply();
        _frames.Hurry();
    }

    /// <summary>A port's change is the driver's to see.</summary>
    void Notice() => _interruptStatus |= RHSC;

    /// <summary>A device's signal ends the suspension of the bus (section 5.1.2.3).</summary>
    void Resume()
    {
        if ((_control & HCFS) != UsbSuspend) return;
        _control = _control & ~HCFS | UsbResume;
        _interruptStatus |= RD;
    }

    void Connect(UsbPort port)
    {
        ref uint status = ref _portStatus[port.Index];
        status = status & ~(LSDA | PES | PSS) | CCS | CSC | (port.Device!.Speed == UsbSpeed.Low ? LSDA : 0);
    }

    void ResetPort(UsbPort port)
    {
        _portStatus[port.Index] = PPS;
        port.Reset();
        if (port.Device != null) Connect(port);
    }

    void WritePort(int index, uint value)
    {
        ref uint status = ref _portStatus[index];
        uint before = status;
        status &= ~(value & Changes);
        if ((value & ClearPortEnable) != 0) status &= ~(PES | PSS);
        if ((value & (SetPortEnable | SetPortSuspend | SetPortReset)) != 0 && (status & CCS) == 0)
            status |= CSC;                                         // section 7.4.4: nobody is there
        else
        {
            if ((value & SetPortEnable) != 0) status |= PES;
            if ((value & SetPortSuspend) != 0 && (status & PES) != 0) status |= PSS;
            if ((value & SetPortReset) != 0)
            {
                _ports[index].Reset();
                status = status & ~PSS | PES | PRSC;
            }
        }
        if ((value & ClearSuspendStatus) != 0 && (before & status & PSS) != 0) status = status & ~PSS | PSSC;
        if ((status & ~before & Changes) != 0) Notice();
        if ((status & PES) != 0) _frames.Hurry();
    }

    /// <summary>The device of this address on an enabled port that is awake.</summary>
    UsbDevice? Find(byte address)
    {
        foreach (UsbPort port in _ports)
            if ((_portStatus[port.Index] & (PES | PSS)) == PES && port.Find(address) is { } device) return device;
        return null;
    }
}
