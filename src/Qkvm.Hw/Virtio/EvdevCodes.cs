using Qkvm.Core.Input;

namespace Qkvm.Hw.Virtio;

/// <summary>Numbers of Linux's input events, which virtio-input speaks in: input-event-codes.h.</summary>
static class EvdevCodes
{
    // Types
    public const ushort Sync = 0, Key = 1, Relative = 2, Absolute = 3, Led = 0x11, Repeat = 0x14;

    // Axes
    public const ushort X = 0, Y = 1, Wheel = 8;

    public const ushort ButtonLeft = 0x110, ButtonRight = 0x111, ButtonMiddle = 0x112, ButtonSide = 0x113,
        ButtonExtra = 0x114, WheelDown = 0x150, WheelUp = 0x151;
    public const ushort NumLock = 0, CapsLock = 1, ScrollLock = 2;

    /// <summary>Linux numbers the keys of the old keyboard as set 1 does, and the others at will.</summary>
    public static ushort Of(KeyCode key) => key switch
    {
        <= KeyCode.KpDecimal or KeyCode.Less or KeyCode.F11 or KeyCode.F12 => (ushort)key,
        KeyCode.Ro => 89,
        KeyCode.Henkan => 92,
        KeyCode.Muhenkan => 94,
        KeyCode.KpEnter => 96,
        KeyCode.CtrlR => 97,
        KeyCode.KpDivide => 98,
        KeyCode.SysRq or KeyCode.Print => 99,
        KeyCode.AltR => 100,
        KeyCode.Home => 102,
        KeyCode.Up => 103,
        KeyCode.PgUp => 104,
        KeyCode.Left => 105,
        KeyCode.Right => 106,
        KeyCode.End => 107,
        KeyCode.Down => 108,
        KeyCode.PgDn => 109,
        KeyCode.Insert => 110,
        KeyCode.Delete => 111,
        KeyCode.Power => 116,
        KeyCode.Pause => 119,
        KeyCode.KpComma => 121,
        KeyCode.Yen => 124,
        KeyCode.MetaL => 125,
        KeyCode.MetaR => 126,
        KeyCode.Compose => 127,
        KeyCode.Sleep => 142,
        KeyCode.Wake => 143,
        _ => 0,
    };
}
