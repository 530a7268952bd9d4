using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>usb-serial: an FT232BM between USB and a character device. Spec: FTDI DS_FT232BM and AN232B-04; the
/// requests as Linux' ftdi_sio.h names them.</summary>
/// <remarks>While nobody is at the other end it is not plugged, unless always-plugged=on. Deviations: bytes go as fast
/// as the two ends take them, whatever the baud rate says; the modem lines are fixed at carrier detect, data set ready
/// and clear to send; a packet comes when there are bytes, never of the latency timer alone; no EEPROM.</remarks>
public sealed class UsbSerial : UsbDevice, ICharFrontend
{
    public static readonly DeviceModel Model = new("usb-serial", BusKind.Usb,
        [Property.Chardev(), Property.Bool("always-plugged", false, "also while nobody is at the other end")],
        static (properties, site) => new UsbSerial(properties, site.Chardev(properties.Text("chardev")
            ?? throw properties.Error("Property chardev is required"))))
        { Category = DeviceCategory.Input, Description = "a serial port (FT232BM)" };

    // bmRequestType << 8 | bRequest
    const ushort SioReset = 0x4000, SetModemControl = 0x4001, SetFlowControl = 0x4002, SetBaudRate = 0x4003,
        SetData = 0x4004, GetModemStatus = 0xC005, SetEventCharacter = 0x4006, SetErrorCharacter = 0x4007,
        SetLatencyTimer = 0x4009, GetLatencyTimer = 0xC00A;
    const ushort ResetSio = 0, PurgeReceived = 1, PurgeSent = 2;   // wValue of SioReset
    const byte In = UsbEndpoint.In | 1, Out = 2, MaxPacket = 64, StatusLength = 2, DefaultLatency = 16; // ms
    const byte ModemStatus = 0x80 | 0x20 | 0x10 | 1;               // carrier, data set ready, clear to send; always one
    const byte Break = 0x10, TransmitterEmpty = 0x60;              // of the line's status
    const int Waiting = 512;                                       // received bytes that the host has not read

    static readonly UsbDescription s_description = new(0x0403, 0x6001, 0x0400, "QEMU", "QEMU USB SERIAL",
        "QEMU BAUM BRAILLE", "1")
    {
        Serial = 4,
        Title = "QEMU USB Serial",
        Full = new UsbLayout(0x0200, 8, new UsbConfiguration(1, UsbConfiguration.RemoteWakeup, 50,
            new UsbInterface(0, 0xFF, 0xFF, 0xFF, new UsbEndpoint(In, UsbTransfer.Bulk, MaxPacket),
                new UsbEndpoint(Out, UsbTransfer.Bulk, MaxPacket)))),
    };

    readonly ICharBackend _backend;
    readonly bool _isAlwaysPlugged;
    readonly ByteQueue _received = new(Waiting);
    byte _latency = DefaultLatency;
    bool _hasBreak;
    UsbPacket? _sending;                                           // not migrated: nothing is in flight while saving

    UsbSerial(Properties properties, ICharBackend backend) : base(Model.Name, s_description, properties)
    {
        (_backend, _isAlwaysPlugged) = (backend, properties.Bool("always-plugged"));
        backend.Connect(this);
    }

    protected override bool IsPresent => _isAlwaysPlugged || _backend.IsOpen;

    public int Room => Port == null ? 0 : _received.Room;

    public void Receive(ReadOnlySpan<byte> data)
    {
        foreach (byte value in data) _received.TryPush(value);
        Wake(In);
    }

    public void Event(CharEvent what)
    {
        switch (what)
        {
            case CharEvent.Break:
                _hasBreak = true;
                Wake(In);
                break;
            case CharEvent.Opened or CharEvent.Closed: FollowPresence(); break;
        }
    }

    public void Writable()
    {
        if (_sending is not { } packet || !Send(packet)) return;
        _sending = null;
        packet.Complete(UsbStatus.Success);
    }

    protected override void ResetDevice()
    {
        _received.Clear();
        (_latency, _hasBreak) = (DefaultLatency, false);
        _backend.AcceptInput();
    }

    protected override UsbStatus Transfer(UsbPacket packet)
    {
        if (packet.Token == UsbToken.In) return Answer(packet);
        if (_sending != null) return UsbStatus.Nak;
        if (Send(packet)) return UsbStatus.Success;
        _sending = packet;
        return UsbStatus.Pending;
    }

    protected override void CancelTransfer(UsbPacket packet)
    {
        if (_sending == packet) _sending = null;
    }

    protected override int AnswerRequest(in UsbSetup setup, Span<byte> answer)
    {
        ReadOnlySpan<byte> bytes = setup.Code switch
        {
            GetModemStatus => [ModemStatus, TransmitterEmpty],
            GetLatencyTimer => [_latency],
            _ => default,
        };
        if (bytes.Length == 0 || bytes.Length > answer.Length) return Stall;
        bytes.CopyTo(answer);
        return bytes.Length;
    }

    protected override bool ObeyRequest(in UsbSetup setup, ReadOnlySpan<byte> data)
    {
        switch (setup.Code)
        {
            case SioReset when setup.Value is ResetSio or PurgeReceived or PurgeSent:
                if (setup.Value != PurgeSent) _received.Clear();
                _backend.AcceptInput();
                return true;
            case SetLatencyTimer:
                _latency = (byte)setup.Value;
                return true;
            case SetModemControl or SetFlowControl or SetBaudRate or SetData or SetEventCharacter or SetErrorCharacter:
                return true;
            default: return false;
        }
    }

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("latency", ref _latency);
        state.Field("break", ref _hasBreak);
        _received.Exchange(state, "received");
    }

    /// <summary>Each packet of the endpoint's size begins with the status of modem and line.</summary>
    UsbStatus Answer(UsbPacket packet)
    {
        if (packet.Room <= StatusLength || (_received.Count == 0 && !_hasBreak)) return UsbStatus.Nak;
        do
        {
            packet.Put([ModemStatus, _hasBreak ? Break : (byte)0]);
            if (_hasBreak)
            {
                _hasBreak = false;
                return UsbStatus.Success;
            }
            int count = Math.Min(MaxPacket - StatusLength, Math.Min(packet.Room, _received.Count)), left = count;
            while (left > 0)
            {
                int piece = packet.Put(_received.Front[..Math.Min(left, _received.Front.Length)]);
                _received.Drop(piece);
                left -= piece;
            }
            if (count < MaxPacket - StatusLength) break;           // a short packet
            _backend.AcceptInput();
        }
        while (packet.Room > StatusLength && _received.Count > 0);
        _backend.AcceptInput();
        return UsbStatus.Success;
    }

    /// <summary>False: the backend has no room, and calls when it has.</summary>
    bool Send(UsbPacket packet)
    {
        foreach (Memory<byte> piece in packet.Rest)
        {
            int taken = _backend.Write(piece.Span);
            packet.Advance(taken);
            if (taken < piece.Length) return false;
        }
        return true;
    }
}
