using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Core.Usb;

/// <summary>The standard requests. USB 2.0, section 9.4; USB 3.2, section 9.4.</summary>
public abstract partial class UsbDevice
{
    // bmRequestType << 8 | bRequest
    const ushort DeviceGetStatus = 0x8000, DeviceClearFeature = 0x0001, DeviceSetFeature = 0x0003,
        SetAddress = 0x0005, GetDescriptor = 0x8006, GetConfiguration = 0x8008, SetConfiguration = 0x0009,
        InterfaceGetStatus = 0x8100, InterfaceClearFeature = 0x0101, InterfaceSetFeature = 0x0103,
        GetInterface = 0x810A, SetInterface = 0x010B,
        EndpointGetStatus = 0x8200, EndpointClearFeature = 0x0201, EndpointSetFeature = 0x0203,
        SetSel = 0x0030, SetIsochronousDelay = 0x0031;
    const ushort EndpointHalt = 0, FunctionSuspend = 0, RemoteWakeupFeature = 1, U1Enable = 48, TimingEnable = 50;
    const byte StatusSelfPowered = 1, StatusRemoteWakeup = 2, StatusHalt = 1;

    readonly bool _hasMsOs = description.SuspendsOnWindows && properties.Bool("msos-desc");
    string _serial = properties.Text("serial") ?? "";

    /// <summary>Of a request with data for the host.</summary>
    internal int Answer(in UsbSetup setup, Span<byte> answer)
    {
        switch (setup.Code)
        {
            case DeviceGetStatus:
                return Put16(answer, (ushort)(((Attributes & UsbConfiguration.SelfPowered) != 0 ? StatusSelfPowered : 0)
                    | (_mayWake ? StatusRemoteWakeup : 0)));
            case InterfaceGetStatus: return HasInterface(setup.Index) ? Put16(answer, 0) : Stall;
            case EndpointGetStatus:
                return HasEndpoint(setup.Index) ? Put16(answer, IsHalted(setup.Index) ? StatusHalt : (ushort)0) : Stall;
            case GetConfiguration: return Put(answer, _configuration);
            case GetInterface: return HasInterface(setup.Index) ? Put(answer, _alternates[setup.Index]) : Stall;
            case GetDescriptor: return Describe(setup, answer);
            case UsbMsOs.GetCompatibleId or UsbMsOs.GetProperties when _hasMsOs: return UsbMsOs.Answer(setup, answer);
            default: return AnswerRequest(setup, answer);
        }
    }

    /// <summary>Of a request with data for the device, or with none.</summary>
    internal bool Obey(in UsbSetup setup, ReadOnlySpan<byte> data)
    {
        switch (setup.Code)
        {
            case SetAddress:
                if (setup.Value > MaxAddress) return false;
                _address = (byte)setup.Value;
                return true;
            case SetConfiguration:
                byte value = (byte)setup.Value;
                if (value != 0 && Layout?.Find(value) == null) return false;
                EndPending();
                Choose(value);
                OnConfigured();
                return true;
            case SetInterface: return ChooseAlternate(setup);
            case DeviceClearFeature: return SetDeviceFeature(setup.Value, isOn: false);
            case DeviceSetFeature: return SetDeviceFeature(setup.Value, isOn: true);
            case InterfaceClearFeature or InterfaceSetFeature:
                return Speed == UsbSpeed.Super && setup.Value == FunctionSuspend;
            case EndpointClearFeature or EndpointSetFeature:
                if (setup.Value != EndpointHalt || !HasEndpoint(setup.Index)) return false;
                SetHalt((byte)setup.Index, setup.Code == EndpointSetFeature);
                return true;
            case SetSel or SetIsochronousDelay: return Speed == UsbSpeed.Super;
            default: return ObeyRequest(setup, data);
        }
    }

    byte Attributes => (Configuration ?? Layout?.Configurations[0])?.Attributes ?? 0;

    int Describe(in UsbSetup setup, Span<byte> answer)
    {
        byte type = (byte)(setup.Value >> 8), index = (byte)setup.Value;
        var writer = new UsbDescriptorWriter(answer);
        UsbLayout? layout = Layout, other = Description.At(Speed == UsbSpeed.High ? UsbSpeed.Full : UsbSpeed.High);
        bool isOld = Speed != UsbSpeed.Super;
        switch (type)
        {
            case UsbDescriptorWriter.Device when layout != null:
                writer.PutDevice(Description, layout, _hasMsOs ? UsbMsOs.LeastUsbVersion : (ushort)0);
                break;
            case UsbDescriptorWriter.Configuration when index < layout?.Configurations.Length:
                writer.PutConfiguration(layout.Configurations[index], !isOld);
                break;
            case UsbDescriptorWriter.String when index == 0: writer.PutLanguages(); break;
            case UsbDescriptorWriter.String when TextOf(index) is { } text: writer.PutText(text); break;
            case UsbDescriptorWriter.DeviceQualifier when isOld && other != null: writer.PutQualifier(other); break;
            case UsbDescriptorWriter.OtherSpeed when isOld && index < other?.Configurations.Length:
                writer.PutConfiguration(other.Configurations[index], isSuper: false, UsbDescriptorWriter.OtherSpeed);
                break;
            case UsbDescriptorWriter.Bos: writer.PutBos(Description); break;
            default: return Stall;
        }
        return Math.Min(writer.Length, answer.Length);
    }

    /// <summary>String of a number, or null.</summary>
    string? TextOf(byte index) => index == Description.Serial ? _serial
        : index == UsbMsOs.StringIndex && _hasMsOs ? UsbMsOs.Signature
        : index > 0 ? Description.Texts.ElementAtOrDefault(index - 1) : null;

    /// <summary>One that differs by place, behind the description's: "42-0000:00:01.2-1".</summary>
    string DefaultSerial(DeviceSite site)
    {
        string own = Description.Texts.ElementAtOrDefault(Description.Serial - 1) ?? "";
        return site.Bus.Owner?.Device is PciDevice controller
            ? $"{own}-{PciPath(controller)}-{Place!.Path}" : $"{own}-{Place!.Path}";
    }

    static string PciPath(PciDevice function)
    {
        string path = $"{function.DevFn >> 3:x2}.{function.DevFn & 7:x}";
        for (PciBridge? bridge = function.Bus.Bridge; bridge != null; bridge = bridge.Bus.Bridge)
            path = $"{bridge.DevFn >> 3:x2}.{bridge.DevFn & 7:x}:{path}";
        return $"0000:00:{path}";
    }

    bool SetDeviceFeature(ushort feature, bool isOn)
    {
        if (feature is >= U1Enable and <= TimingEnable) return Speed == UsbSpeed.Super;
        if (feature != RemoteWakeupFeature || (Attributes & UsbConfiguration.RemoteWakeup) == 0) return false;
        _mayWake = isOn;
        return true;
    }

    bool ChooseAlternate(in UsbSetup setup)
    {
        byte number = (byte)setup.Index, alternate = (byte)setup.Value;
        if (setup.Index > byte.MaxValue || setup.Value > byte.MaxValue
            || Configuration?.Find(number, alternate) is not { } chosen) return false;
        EndPending();
        _alternates[number] = alternate;
        FindEndpoints();
        foreach (UsbEndpoint endpoint in chosen.Endpoints) _halted &= ~(1u << IndexOf(endpoint.Address));
        OnConfigured();
        return true;
    }

    void SetHalt(byte endpoint, bool isHalted)
    {
        if ((endpoint & 15) == 0) return;                          // the next setup clears it by itself
        uint bit = 1u << IndexOf(endpoint);
        _halted = isHalted ? _halted | bit : _halted & ~bit;
        if (!isHalted) OnHaltCleared(endpoint);
    }

    bool HasInterface(ushort number) => number <= byte.MaxValue
        && Configuration?.Find((byte)number, _alternates[number]) != null;

    bool HasEndpoint(ushort address) => (address & ~(15 | UsbEndpoint.In)) == 0
        && ((address & 15) == 0 || _endpoints[IndexOf((byte)address)] != null);

    bool IsHalted(ushort address) => (_halted >> IndexOf((byte)address) & 1) != 0;

    static int Put(Span<byte> answer, byte value)
    {
        if (answer.Length == 0) return 0;
        answer[0] = value;
        return 1;
    }

    static int Put16(Span<byte> answer, ushort value)
    {
        Span<byte> bytes = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, value);
        int count = Math.Min(2, answer.Length);
        bytes[..count].CopyTo(answer);
        return count;
    }
}
