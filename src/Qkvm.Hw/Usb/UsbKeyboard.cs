using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>usb-kbd: reports of the boot protocol (HID 1.11, appendix B.1), six keys and the modifiers, one change a
/// report.</summary>
public sealed class UsbKeyboard : UsbHid, IKeyboardSink
{
    static readonly UsbHidKind s_kind = new(Product: 4, Interface: 8, Serial: 11, BootProtocol: 1, HidVersion: 0x111,
        MaxPacket: 8, HighInterval: 7,
    [
        0x05, 0x01, 0x09, 0x06, 0xA1, 0x01,                        // generic desktop, keyboard: application
        0x75, 0x01, 0x95, 0x08, 0x05, 0x07, 0x19, 0xE0, 0x29, 0xE7, 0x15, 0x00, 0x25, 0x01, 0x81, 0x02, // modifiers
        0x95, 0x01, 0x75, 0x08, 0x81, 0x01,                        // reserved
        0x95, 0x05, 0x75, 0x01, 0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x91, 0x02, // lights
        0x95, 0x01, 0x75, 0x03, 0x91, 0x01,
        0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x25, 0xFF, 0x05, 0x07, 0x19, 0x00, 0x29, 0xFF, 0x81, 0x00, // keys
        0xC0,
    ]);

    public static readonly DeviceModel Model = new("usb-kbd", BusKind.Usb, Own, static (properties, site) =>
    {
        var keyboard = new UsbKeyboard(properties, site);
        InputRouter router = site.Board.Input;
        router.AddBehind(keyboard);
        site.OnLeave(() => router.Remove(keyboard));
        return keyboard;
    }) { Category = DeviceCategory.Input };

    const int QueueSize = 16, MaxKeys = 16, ReportKeys = 6, ReportSize = 8;
    const byte ErrorRollOver = 1, FirstModifier = 0xE0, LastModifier = 0xE7, NumLight = 1, CapsLight = 2,
        ScrollLight = 4;

    readonly InputRouter _router;
    readonly byte[] _queue = new byte[QueueSize];                  // usages, the first to be reported first
    ushort _releases;                                              // which of them are releases
    int _count, _down;
    readonly byte[] _keys = new byte[MaxKeys];                     // usages that are down, the first _down
    byte _modifiers, _lights;

    UsbKeyboard(Properties properties, DeviceSite site) : base(s_kind, Model.Name, properties, site) =>
        _router = site.Board.Input;

    public bool HasRoom => _count < QueueSize;

    public KeyboardLocks Lights => ((_lights & NumLight) != 0 ? KeyboardLocks.Num : 0)
        | ((_lights & CapsLight) != 0 ? KeyboardLocks.Caps : 0)
        | ((_lights & ScrollLight) != 0 ? KeyboardLocks.Scroll : 0);

    public event Action? Changed;

    protected override bool HasReport => _count > 0;

    protected override void ResetDevice()
    {
        base.ResetDevice();
        Array.Clear(_queue);
        Array.Clear(_keys);
        _releases = 0;
        (_count, _down) = (0, 0);
        _modifiers = _lights = 0;
        Changed?.Invoke();
    }

    public void Key(KeyCode key, bool down)
    {
        byte usage = HidUsages.Of(key);
        if (usage == 0 || !HasRoom) return;
        _queue[_count] = usage;
        if (!down) _releases |= (ushort)(1 << _count);
        _count++;
        Wake(InEndpoint);
    }

    protected override void OnListening() => _router.Prefer(this);

    protected override int TakeReport(Span<byte> report)
    {
        if (_count > 0)
        {
            Apply(_queue[0], (_releases & 1) == 0);
            _count--;
            Array.Copy(_queue, 1, _queue, 0, _count);
            _queue[_count] = 0;
            _releases >>= 1;
            Changed?.Invoke();                                     // there is room
        }
        return PeekReport(report);
    }

    protected override int PeekReport(Span<byte> report)
    {
        report[..ReportSize].Clear();
        report[0] = _modifiers;
        Span<byte> keys = report.Slice(2, ReportKeys);
        if (_down > ReportKeys) keys.Fill(ErrorRollOver);
        else _keys.AsSpan(0, _down).CopyTo(keys);
        return ReportSize;
    }

    protected override void SetOutput(ReadOnlySpan<byte> report)
    {
        if (report.Length == 0) return;
        _lights = report[0];
        Changed?.Invoke();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        base.ExchangeDevice(state);
        state.Block("queue", _queue);
        state.Field("queued", ref _count, 0, QueueSize);
        state.Field("releases", ref _releases);
        state.Block("keys", _keys);
        state.Field("down", ref _down, 0, MaxKeys);
        state.Field("modifiers", ref _modifiers);
        state.Field("lights", ref _lights);
    }

    void Apply(byte usage, bool down)
    {
        if (usage is >= FirstModifier and <= LastModifier)
        {
            byte bit = (byte)(1 << (usage - FirstModifier));
            _modifiers = down ? (byte)(_modifiers | bit) : (byte)(_modifiers & ~bit);
            return;
        }
        int at = _keys.AsSpan(0, _down).IndexOf(usage);
        if (down && at < 0 && _down < MaxKeys) _keys[_down++] = usage;
        if (down || at < 0) return;
        _down--;
        _keys[at] = _keys[_down];                                  // their order means nothing
        _keys[_down] = 0;
    }
}
