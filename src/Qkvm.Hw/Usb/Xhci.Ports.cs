using Qkvm.Core.Usb;
using static Qkvm.Hw.Usb.XhciRegisters;

namespace Qkvm.Hw.Usb;

/// <summary>Root hub ports. xHCI 1.2, sections 4.19 and 5.4.8. A place that users plug into has a USB 3 and a USB 2
/// port.</summary>
public sealed partial class Xhci
{
    const uint PortSize = 0x10;

    bool IsUsb3(int register) => register < _options.Usb3Ports;

    /// <summary>The place of a register, from 0.</summary>
    UsbPort PortAt(int register) => _ports[IsUsb3(register) ? register : register - _options.Usb3Ports];

    int RegisterOf(UsbPort port, UsbDevice device) =>
        device.Speed == UsbSpeed.Super ? port.Index : port.Index + _options.Usb3Ports;

    /// <summary>Whose device is seen at a register: the other one of the place may have it.</summary>
    UsbDevice? DeviceAt(int register) =>
        PortAt(register).Device is { } device && RegisterOf(PortAt(register), device) == register ? device : null;

    /// <summary>The root port of this number, from 1, where a device is; null: none.</summary>
    internal UsbPort? RootPort(int number) =>
        number >= 1 && number <= _portsc.Length && DeviceAt(number - 1) != null ? PortAt(number - 1) : null;

    public void Attached(UsbPort port)
    {
        if (port.Device != null) Change(Connect(port), ConnectChange);
    }

    /// <summary>What stands in the register of a device that is there; returns which register.</summary>
    int Connect(UsbPort port)
    {
        UsbDevice device = port.Device!;
        int register = RegisterOf(port, device);
        // table 5-27 with the default speed ids; a USB 3 link trains by itself
        uint speed = device.Speed switch { UsbSpeed.Full => 1, UsbSpeed.Low => 2, UsbSpeed.High => 3, _ => 4u };
        _portsc[register] = _portsc[register] & (PortPower | WakeBits | Changes) | Connected | speed << 10
            | (IsUsb3(register) ? PortEnabled | U0 : Polling) | ConnectChange;
        return register;
    }

    public void Detached(UsbPort port)
    {
        for (int register = 0; register < _portsc.Length; register++)
        {
            if (PortAt(register) != port || (_portsc[register] & Connected) == 0) continue;
            _portsc[register] = _portsc[register] & (PortPower | WakeBits | Changes) | RxDetect;
            Change(register, ConnectChange);
        }
    }

    public void Wake(UsbPort port, UsbDevice device, byte endpoint)
    {
        UsbPort root = port;
        if (root.Device is { } there && RegisterOf(root, there) is var register
            && (_portsc[register] & LinkState) == U3 && device.MayWake)
        {
            _portsc[register] = _portsc[register] & ~LinkState | Resume;
            Change(register, LinkChange);
        }
        foreach (XhciSlot slot in _slots)
            if (slot.Device == device) slot.Wake(endpoint);
    }

    /// <summary>A change bit is set: the driver hears of it, once until it clears all of them.</summary>
    void Change(int register, uint bits)
    {
        bool isNews = (_portsc[register] & Changes) == 0 || (_portsc[register] & bits) != bits || bits == ConnectChange;
        _portsc[register] |= bits;
        if (!isNews) return;
        _status |= PortChange;
        if (IsRunning)
            Tell(0, new XhciTrb((ulong)(register + 1) << 24, CompletionCode(Success), PortStatusChange << 10));
    }

    uint ReadPort(uint offset)
    {
        int register = (int)(offset / PortSize);
        return register < _portsc.Length && offset % PortSize == 0 ? _portsc[register] : 0;
    }

    void WritePort(uint offset, uint value)
    {
        int register = (int)(offset / PortSize);
        if (register >= _portsc.Length || offset % PortSize != 0) return;
        ref uint port = ref _portsc[register];
        port &= ~(value & Changes);
        port = port & ~WakeBits | value & WakeBits;
        if ((value & WarmReset) != 0 && IsUsb3(register)) ResetPort(register, ResetChange | WarmResetChange);
        else if ((value & PortReset) != 0) ResetPort(register, ResetChange);
        else if ((value & PortEnabled) != 0 && (port & PortEnabled) != 0) port &= ~PortEnabled;
        else if ((value & LinkWrite) != 0) WriteLink(register, value & LinkState);
    }

    void ResetPort(int register, uint changes)
    {
        if (DeviceAt(register) is not { } device) return;
        device.Port?.Reset();
        _portsc[register] = _portsc[register] & ~LinkState | PortEnabled | U0;
        Change(register, changes);
    }

    /// <summary>U3 suspends; U0, behind Resume on USB 2, resumes.</summary>
    void WriteLink(int register, uint link)
    {
        ref uint port = ref _portsc[register];
        uint before = port & LinkState;
        if ((port & PortEnabled) == 0) return;
        if (link == U3 && before < U3 || link == Resume && before == U3) port = port & ~LinkState | link;
        if (link != U0 || before == U0) return;
        port &= ~LinkState;
        Change(register, LinkChange);
    }
}
