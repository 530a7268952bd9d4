using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>usb-mouse and usb-tablet: buttons and a wheel, and movements or positions.</summary>
public sealed class UsbPointer : UsbHid, IPointerSink
{
    const int QueueSize = 16, MaxStep = 127, MaxPosition = 0x7FFF, MaxPending = 0xFFFF;

    static readonly UsbHidKind s_mouse = new(Product: 2, Interface: 6, Serial: 9, BootProtocol: 2, HidVersion: 1,
        MaxPacket: 4, HighInterval: 7,
    [
        0x05, 0x01, 0x09, 0x02, 0xA1, 0x01,                        // generic desktop, mouse: application
        0x09, 0x01, 0xA1, 0x00,                                    // pointer: physical
        0x05, 0x09, 0x19, 0x01, 0x29, 0x05, 0x15, 0x00, 0x25, 0x01, 0x95, 0x05, 0x75, 0x01, 0x81, 0x02, // 5 buttons
        0x95, 0x01, 0x75, 0x03, 0x81, 0x01,                        // padding
        0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x09, 0x38,            // X, Y, wheel
        0x15, 0x81, 0x25, 0x7F, 0x75, 0x08, 0x95, 0x03, 0x81, 0x06, 0xC0, 0xC0, // -127 to 127, relative
    ]);

    static readonly UsbHidKind s_tablet = new(Product: 3, Interface: 7, Serial: 10, BootProtocol: 0, HidVersion: 1,
        MaxPacket: 8, HighInterval: 4,
    [
        0x05, 0x01, 0x09, 0x02, 0xA1, 0x01, 0x09, 0x01, 0xA1, 0x00,
        0x05, 0x09, 0x19, 0x01, 0x29, 0x03, 0x15, 0x00, 0x25, 0x01, 0x95, 0x03, 0x75, 0x01, 0x81, 0x02, // 3 buttons
        0x95, 0x01, 0x75, 0x05, 0x81, 0x01,
        0x05, 0x01, 0x09, 0x30, 0x09, 0x31,                        // X, Y
        0x15, 0x00, 0x26, 0xFF, 0x7F, 0x35, 0x00, 0x46, 0xFF, 0x7F, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02, // absolute
        0x05, 0x01, 0x09, 0x38, 0x15, 0x81, 0x25, 0x7F, 0x35, 0x00, 0x45, 0x00, 0x75, 0x08, 0x95, 0x01, 0x81, 0x06,
        0xC0, 0xC0,
    ]);

    public static readonly DeviceModel Mouse = new("usb-mouse", BusKind.Usb, Own,
        static (properties, site) => Make(Mouse!, s_mouse, properties, site)) { Category = DeviceCategory.Input };

    public static readonly DeviceModel Tablet = new("usb-tablet", BusKind.Usb, [.. Own, Property.Missing("head", "0")],
        static (properties, site) => Make(Tablet!, s_tablet, properties, site)) { Category = DeviceCategory.Input };

    struct Event
    {
        public int X, Y, Wheel;
        public byte Buttons;
    }

    readonly InputRouter _router;
    readonly Event[] _events = new Event[QueueSize];               // the first _count are to be reported
    int _count;
    Event _last;                                                   // as reported; of a mouse the buttons alone

    UsbPointer(string name, UsbHidKind kind, Properties properties, DeviceSite site)
        : base(kind, name, properties, site)
    {
        IsAbsolute = kind == s_tablet;
        _router = site.Board.Input;
    }

    static UsbPointer Make(DeviceModel model, UsbHidKind kind, Properties properties, DeviceSite site)
    {
        var pointer = new UsbPointer(model.Name, kind, properties, site);
        InputRouter router = site.Board.Input;
        router.AddBehind(pointer);
        site.OnLeave(() => router.Remove(pointer));
        return pointer;
    }

    string IPointerSink.Name => IsAbsolute ? "QEMU HID Tablet" : "QEMU HID Mouse";
    public bool IsAbsolute { get; }
    protected override bool HasReport => _count > 0;

    protected override void ResetDevice()
    {
        base.ResetDevice();
        Array.Clear(_events);
        _count = 0;
        _last = default;
    }

    protected override void OnListening() => _router.Prefer(this);

    /// <summary>Movements that were not yet reported add up; buttons are told one change at a time, as long as there is
    /// room.</summary>
    public void Pointer(int x, int y, int wheel, MouseButtons buttons)
    {
        bool joins = _count > 0 && (_count == QueueSize || _events[_count - 1].Buttons == (byte)buttons);
        if (!joins) _events[_count++] = default;
        ref Event last = ref _events[_count - 1];
        if (IsAbsolute)
        {
            last.X = Math.Clamp(x, 0, MaxPosition);
            last.Y = Math.Clamp(y, 0, MaxPosition);
        }
        else
        {
            last.X = Sum(last.X, x);
            last.Y = Sum(last.Y, y);
        }
        last.Wheel = Sum(last.Wheel, wheel);
        last.Buttons = (byte)buttons;
        Wake(InEndpoint);
    }

    protected override int TakeReport(Span<byte> report)
    {
        if (_count == 0) return Write(_last, report);
        ref Event next = ref _events[0];
        int length = Write(next, report);
        _last = next;
        _last.Wheel = 0;
        if (!IsAbsolute) (_last.X, _last.Y) = (0, 0);
        // what is too much for one report stays
        if (!IsAbsolute) (next.X, next.Y) = (next.X - Step(next.X), next.Y - Step(next.Y));
        next.Wheel -= Step(next.Wheel);
        bool isDone = next.Wheel == 0 && (IsAbsolute || (next.X == 0 && next.Y == 0));
        if (!isDone) return length;
        _count--;
        Array.Copy(_events, 1, _events, 0, _count);
        return length;
    }

    protected override int PeekReport(Span<byte> report) => Write(_count > 0 ? _events[0] : _last, report);

    protected override void ExchangeDevice(StateStream state)
    {
        base.ExchangeDevice(state);
        state.Field("count", ref _count, 0, QueueSize);
        for (int i = 0; i < _count; i++) Exchange(state.Group("event", i), ref _events[i]);
        Exchange(state.Group("last"), ref _last);
    }

    void Exchange(StateStream state, ref Event what)
    {
        int min = IsAbsolute ? 0 : -MaxPending, max = IsAbsolute ? MaxPosition : MaxPending;
        state.Field("x", ref what.X, min, max);
        state.Field("y", ref what.Y, min, max);
        state.Field("wheel", ref what.Wheel, -MaxPending, MaxPending);
        state.Field("buttons", ref what.Buttons);
    }

    /// <summary>The wheel's up is positive.</summary>
    int Write(in Event what, Span<byte> report)
    {
        report[0] = what.Buttons;
        sbyte wheel = (sbyte)-Step(what.Wheel);
        if (IsAbsolute)
        {
            System.Buffers.Binary.BinaryPrimitives.WriteUInt16LittleEndian(report[1..], (ushort)what.X);
            System.Buffers.Binary.BinaryPrimitives.WriteUInt16LittleEndian(report[3..], (ushort)what.Y);
            report[5] = (byte)wheel;
            return 6;
        }
        report[1] = (byte)(sbyte)Step(what.X);
        report[2] = (byte)(sbyte)Step(what.Y);
        report[3] = (byte)wheel;
        return 4;
    }

    static int Step(int value) => Math.Clamp(value, -MaxStep, MaxStep);

    static int Sum(int a, int b) => Math.Clamp(a + Math.Clamp(b, -MaxPending, MaxPending), -MaxPending, MaxPending);
}
