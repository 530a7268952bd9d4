using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>virtio-mouse and virtio-tablet. What happens while the driver gives no buffers is added up. Virtio 1.2,
/// section 5.8.</summary>
/// <param name="hasWheelAxis">A wheel is an axis; otherwise it is two buttons.</param>
public sealed class VirtioPointer : VirtioInput, IPointerSink
{
    const int Largest = 0x7FFF, MostPending = 0x7FFF, EventsOfReport = 12;

    static readonly (MouseButtons Button, ushort Code)[] Buttons =
    [
        (MouseButtons.Left, EvdevCodes.ButtonLeft), (MouseButtons.Right, EvdevCodes.ButtonRight),
        (MouseButtons.Middle, EvdevCodes.ButtonMiddle), (MouseButtons.Side, EvdevCodes.ButtonSide),
        (MouseButtons.Extra, EvdevCodes.ButtonExtra),
    ];

    readonly InputRouter _router;
    readonly bool _hasWheelAxis;
    int _x, _y, _wheel;                                            // positions, or what is yet to be told
    int _toldX, _toldY;                                            // of a tablet
    byte _buttons, _toldButtons;

    public VirtioPointer(string name, string? serial, InputRouter router, bool isAbsolute, bool hasWheelAxis)
        : base(name, isAbsolute ? "QEMU Virtio Tablet" : "QEMU Virtio Mouse", serial, (ushort)(isAbsolute ? 3 : 2))
    {
        (_router, IsAbsolute, _hasWheelAxis) = (router, isAbsolute, hasWheelAxis);
        foreach ((_, ushort code) in Buttons) Has(EvdevCodes.Key, code);
        Has(isAbsolute ? EvdevCodes.Absolute : EvdevCodes.Relative, EvdevCodes.X, EvdevCodes.Y);
        if (hasWheelAxis) Has(EvdevCodes.Relative, EvdevCodes.Wheel);
        else Has(EvdevCodes.Key, EvdevCodes.WheelUp, EvdevCodes.WheelDown);
    }

    public bool IsAbsolute { get; }

    string IPointerSink.Name => IsAbsolute ? "QEMU Virtio Tablet" : "QEMU Virtio Mouse";

    protected override uint? LargestPosition => IsAbsolute ? Largest : null;

    public void Pointer(int x, int y, int wheel, MouseButtons buttons)
    {
        _x = IsAbsolute ? Math.Clamp(x, 0, Largest) : Sum(_x, x);
        _y = IsAbsolute ? Math.Clamp(y, 0, Largest) : Sum(_y, y);
        _wheel = Sum(_wheel, wheel);
        _buttons = (byte)buttons;
        Tell();

        static int Sum(int pending, int more) => (int)Math.Clamp((long)pending + more, -MostPending, MostPending);
    }

    /// <summary>Without a driver another pointer has the movements.</summary>
    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        base.Start(queues, features);
        _router.Add(this);
    }

    public override void Stop()
    {
        base.Stop();
        _router.Remove(this);
    }

    protected override void RoomCame() => Tell();

    void Tell()
    {
        bool moved = IsAbsolute ? (_x, _y) != (_toldX, _toldY) : (_x, _y) != (0, 0);
        if (!moved && _wheel == 0 && _buttons == _toldButtons || !HasRoomFor(EventsOfReport)) return;
        Span<(ushort, ushort, int)> events = stackalloc (ushort, ushort, int)[EventsOfReport];
        int count = 0;
        ushort axes = IsAbsolute ? EvdevCodes.Absolute : EvdevCodes.Relative;
        if (_x != _toldX) events[count++] = (axes, EvdevCodes.X, _x);
        if (_y != _toldY) events[count++] = (axes, EvdevCodes.Y, _y);
        if (IsAbsolute) (_toldX, _toldY) = (_x, _y);
        else (_x, _y) = (0, 0);
        foreach ((MouseButtons button, ushort code) in Buttons)
            if (((_buttons ^ _toldButtons) & (byte)button) != 0)
                events[count++] = (EvdevCodes.Key, code, (_buttons & (byte)button) != 0 ? 1 : 0);
        _toldButtons = _buttons;
        if (_wheel != 0 && _hasWheelAxis) events[count++] = (EvdevCodes.Relative, EvdevCodes.Wheel, -_wheel);
        else if (_wheel != 0)
        {
            ushort code = _wheel > 0 ? EvdevCodes.WheelDown : EvdevCodes.WheelUp;
            events[count++] = (EvdevCodes.Key, code, 1);
            events[count++] = (EvdevCodes.Key, code, 0);
        }
        _wheel = 0;
        Report(events[..count]);
    }

    public override void Reset()
    {
        base.Reset();
        (_x, _y, _wheel, _toldX, _toldY, _buttons, _toldButtons) = (0, 0, 0, 0, 0, 0, 0);
    }

    public override void Exchange(StateStream state)
    {
        base.Exchange(state);
        state.Field("x", ref _x, -MostPending, MostPending);
        state.Field("y", ref _y, -MostPending, MostPending);
        state.Field("wheel", ref _wheel, -MostPending, MostPending);
        state.Field("told-x", ref _toldX, 0, Largest);
        state.Field("told-y", ref _toldY, 0, Largest);
        state.Field("buttons", ref _buttons);
        state.Field("told-buttons", ref _toldButtons);
    }
}
