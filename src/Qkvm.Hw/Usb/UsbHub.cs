using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>usb-hub: up to eight more ports at full speed. Spec: USB 2.0, chapter 11.</summary>
/// <remarks>Deviations: resets and resumes take no time; ports always have power.</remarks>
public sealed class UsbHub : UsbDevice, IUsbHost
{
    const int MostPorts = 8;

    public static readonly DeviceModel Model = new("usb-hub", BusKind.Usb,
        [Property.Number("ports", MostPorts, min: 1, max: MostPorts), Property.Missing("port-power", "off")],
        static (properties, _) => new UsbHub(properties)) { Category = DeviceCategory.Controller };

    const byte ChangeEndpoint = UsbEndpoint.In | 1, HubDescriptor = 0x29;

    // bmRequestType << 8 | bRequest, section 11.24.2
    const ushort GetHubStatus = 0xA000, GetPortStatus = 0xA300, GetHubDescriptor = 0xA006, ClearHubFeature = 0x2001,
        SetHubFeature = 0x2003, ClearPortFeature = 0x2301, SetPortFeature = 0x2303;

    // Bits of status and change, and their features: a change's is 16 higher (tables 11-17 and 11-21)
    const int PortConnection = 0, PortEnable = 1, PortSuspend = 2, PortReset = 4, PortPower = 8,
        FirstChange = 16, LastChange = 20;
    const ushort Connected = 1 << PortConnection, Enabled = 1 << PortEnable, Suspended = 1 << PortSuspend,
        WasReset = 1 << PortReset, Powered = 1 << PortPower, LowSpeed = 1 << 9;
    const ushort LocalPower = 0, OverCurrent = 1;

    readonly Properties _properties;
    readonly UsbPort?[] _ports;
    readonly ushort[] _status, _change;

    UsbHub(Properties properties) : base(Model.Name, s_description, properties)
    {
        _properties = properties;
        int ports = (int)properties.Number("ports");
        (_ports, _status, _change) = (new UsbPort?[ports], new ushort[ports], new ushort[ports]);
        ResetDevice();
    }

    static readonly UsbDescription s_description = new(0x0409, 0x55AA, 0x0101, "QEMU", "QEMU USB Hub", "314159")
    {
        Full = new UsbLayout(0x0110, 8, new UsbConfiguration(1, UsbConfiguration.SelfPowered
            | UsbConfiguration.RemoteWakeup, 0, new UsbInterface(0, 9, 0, 0,
                new UsbEndpoint(ChangeEndpoint, UsbTransfer.Interrupt, 2, byte.MaxValue)))) { Class = 9 },
    };

    public override UsbDevice? Find(byte address)
    {
        if (base.Find(address) is { } self) return self;
        for (int i = 0; i < _ports.Length; i++)
            if ((_status[i] & (Enabled | Suspended)) == Enabled && _ports[i]?.Find(address) is { } device)
                return device;
        return null;
    }

    public void Attached(UsbPort port)
    {
        Connect(port.Index, port.Device!);
        Wake(ChangeEndpoint);
    }

    public void Detached(UsbPort port)
    {
        int i = port.Index;
        if ((_status[i] & Enabled) != 0) _change[i] |= Enabled;
        _status[i] = Powered;
        _change[i] |= Connected;
        Wake(ChangeEndpoint);
    }

    public void Wake(UsbPort port, UsbDevice device, byte endpoint)
    {
        int i = port.Index;
        if ((_status[i] & Suspended) != 0 && device.MayWake)
        {
            _status[i] &= unchecked((ushort)~Suspended);
            _change[i] |= Suspended;
            Wake(ChangeEndpoint);
        }
        Port?.Host.Wake(Port, device, endpoint);
    }

    protected override void OnPlugged(UsbBus bus, DeviceSite site)
    {
        if (Place!.Depth >= UsbBus.MaxHubs) throw _properties.Error("usb hub chain too deep");
        for (int i = 0; i < _ports.Length; i++)
        {
            UsbPort port = _ports[i] = new UsbPort(this, i, UsbSpeeds.Low | UsbSpeeds.Full, $"{Place.Path}.{i + 1}");
            bus.Add(port);
            site.OnLeave(() => bus.Remove(port));
        }
    }

    protected override void ResetDevice()
    {
        for (int i = 0; i < _ports?.Length; i++)
        {
            (_status[i], _change[i]) = (Powered, 0);
            if (_ports[i]?.Device is { } device) Connect(i, device);
        }
    }

    /// <summary>A bit for each port with changes, from bit 1 on (section 11.12.4).</summary>
    protected override UsbStatus Transfer(UsbPacket packet)
    {
        uint bits = 0;
        for (int i = 0; i < _ports.Length; i++)
            if (_change[i] != 0) bits |= 2u << i;
        if (bits == 0) return UsbStatus.Nak;
        Span<byte> bitmap = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bitmap, bits);
        int length = Bytes(_ports.Length + 1);
        return packet.Put(bitmap[..length]) == length ? UsbStatus.Success : UsbStatus.Babble;
    }

    protected override int AnswerRequest(in UsbSetup setup, Span<byte> answer)
    {
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        int length = 4;
        switch (setup.Code)
        {
            case GetHubStatus: break;
            case GetPortStatus when PortOf(setup) is { } i:
                BinaryPrimitives.WriteUInt16LittleEndian(bytes, _status[i]);
                BinaryPrimitives.WriteUInt16LittleEndian(bytes[2..], _change[i]);
                break;
            case GetHubDescriptor when setup.Value >> 8 is HubDescriptor or 0: length = Describe(bytes); break;
            default: return Stall;
        }
        length = Math.Min(length, answer.Length);
        bytes[..length].CopyTo(answer);
        return length;
    }

    protected override bool ObeyRequest(in UsbSetup setup, ReadOnlySpan<byte> data)
    {
        switch (setup.Code)
        {
            case ClearHubFeature or SetHubFeature: return setup.Value is LocalPower or OverCurrent;
            case SetPortFeature when PortOf(setup) is { } i: return Set(i, setup.Value);
            case ClearPortFeature when PortOf(setup) is { } i: return Clear(i, setup.Value);
            default: return false;
        }
    }

    protected override void ExchangeDevice(StateStream state)
    {
        for (int i = 0; i < _ports.Length; i++)
        {
            StateStream port = state.Group("port", i);
            port.Field("status", ref _status[i]);
            port.Field("change", ref _change[i]);
        }
    }

    bool Set(int i, ushort feature)
    {
        switch (feature)
        {
            case PortSuspend:
                if ((_status[i] & Enabled) != 0) _status[i] |= Suspended;
                return true;
            case PortReset:
                if (_ports[i]?.Device == null) return true;
                _ports[i]!.Reset();
                _status[i] = (ushort)(_status[i] & ~Suspended | Enabled);
                _change[i] |= WasReset;
                Wake(ChangeEndpoint);
                return true;
            default: return feature == PortPower;
        }
    }

    bool Clear(int i, ushort feature)
    {
        switch (feature)
        {
            case PortEnable: _status[i] &= unchecked((ushort)~(Enabled | Suspended)); return true;
            case PortSuspend:
                if ((_status[i] & Suspended) == 0) return true;
                _status[i] &= unchecked((ushort)~Suspended);
                _change[i] |= Suspended;
                Wake(ChangeEndpoint);
                return true;
            case >= FirstChange and <= LastChange:
                _change[i] &= (ushort)~(1 << (feature - FirstChange));
                return true;
            default: return feature == PortPower;
        }
    }

    void Connect(int i, UsbDevice device)
    {
        _status[i] = (ushort)(Powered | Connected | (device.Speed == UsbSpeed.Low ? LowSpeed : 0));
        _change[i] |= Connected;
    }

    /// <summary>Section 11.23.2.1: no power switching, over-current by port.</summary>
    int Describe(Span<byte> bytes)
    {
        const byte characteristics = 0x0A, powerGood = 1;          // 2 ms
        int removable = Bytes(_ports.Length + 1), mask = Bytes(_ports.Length), length = 7 + removable + mask;
        (bytes[0], bytes[1], bytes[2], bytes[3], bytes[5]) =
            ((byte)length, HubDescriptor, (byte)_ports.Length, characteristics, powerGood);
        bytes.Slice(7 + removable, mask).Fill(0xFF);               // as in USB 1.0
        return length;
    }

    int? PortOf(in UsbSetup setup) => setup.Index >= 1 && setup.Index <= _ports.Length ? setup.Index - 1 : null;

    static int Bytes(int bits) => (bits + 7) / 8;
}
