using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>The root hub. Section 2.1.7, and section 3 for suspending.</summary>
public sealed partial class Uhci
{
    public void Attached(UsbPort port)
    {
        Connect(port);
        Resume();
        Apply();
    }

    public void Detached(UsbPort port)
    {
        ref ushort portsc = ref _portsc[port.Index];
        if ((portsc & PE) != 0) portsc = (ushort)(portsc & ~PE | PEC);
        portsc = (ushort)(portsc & ~(CCS | LSDA | LineStatus | SUSP | RD) | CSC);
        Resume();
        Apply();
    }

    public void Wake(UsbPort port, UsbDevice device, byte endpoint)
    {
        ref ushort portsc = ref _portsc[port.Index];
        bool sleeps = (portsc & SUSP) != 0 || (_command & EGSM) != 0;
        if (sleeps && (portsc & PE) != 0 && device.MayWake)
        {
            if ((portsc & SUSP) != 0) portsc |= RD;
            Resume();
            Apply();
        }
        _frames.Hurry();
    }

    void Connect(UsbPort port)
    {
        bool isLow = port.Device!.Speed == UsbSpeed.Low;
        ref ushort portsc = ref _portsc[port.Index];
        portsc = (ushort)(portsc & ~(LSDA | LineStatus) | CCS | CSC | (isLow ? LSDA | DMinus : DPlus));
    }

    /// <summary>A signal on a port ends the suspension of the whole bus.</summary>
    void Resume()
    {
        if ((_command & EGSM) == 0) return;
        _command |= FGR;
        _status |= RESUME;
    }

    void WritePort(int index, ushort value)
    {
        UsbPort port = _ports[index];
        ref ushort portsc = ref _portsc[index];
        ushort before = portsc;
        if ((value & PR & ~before) != 0)
        {
            port.Reset();
            before = portsc;
        }
        int now = before & ~PortWritable & ~(value & PortChanges) | value & PortWritable;
        if ((now & (CCS | PR)) != CCS) now &= ~PE;                 // enabled is what is connected and not in reset
        if ((before & ~now & RD) != 0) now &= ~SUSP;               // resuming has ended
        portsc = (ushort)now;
        if ((now & PE) != 0) _frames.Hurry();
    }

    /// <summary>The device of this address on an enabled port that is awake.</summary>
    UsbDevice? Find(byte address)
    {
        foreach (UsbPort port in _ports)
            if ((_portsc[port.Index] & (PE | SUSP)) == PE && port.Find(address) is { } device) return device;
        return null;
    }
}
