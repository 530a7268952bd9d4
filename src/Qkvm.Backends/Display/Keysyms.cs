using Qkvm.Core.Input;

namespace Qkvm.Backends.Display;

/// <summary>X keysyms to keys of a US keyboard: both the plain and the shifted character name the key. Spec: RFC 6143,
/// section 7.5.4, and X11's keysymdef.h.</summary>
static class Keysyms
{
    const uint Unicode = 0x0100_0000;                              // and a character: Latin ones have shorter names too
    const uint KeypadFirst = 0xFFAA, KeypadLast = 0xFFB9, F1 = 0xFFBE, F12 = 0xFFC9;

    static ReadOnlySpan<char> Plain => "1234567890-=qwertyuiop[]asdfghjkl;'`\\zxcvbnm,./ ";
    static ReadOnlySpan<char> Shifted => "!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"~|ZXCVBNM<>? ";

    static ReadOnlySpan<ushort> Printable =>
    [
        0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D,
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B,
        0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
        0x2B, 0x2C, 0x2D, 0x2E, 0x2F, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x39,
    ];

    /// <summary>From KP_Multiply to KP_9.</summary>
    static ReadOnlySpan<ushort> Keypad =>
    [
        0x37, 0x4E, 0x7E, 0x4A, 0x53, 0xE035, 0x52, 0x4F, 0x50, 0x51, 0x4B, 0x4C, 0x4D, 0x47, 0x48, 0x49,
    ];

    /// <summary><see cref="KeyCode.None"/> for a character that a US keyboard lacks.</summary>
    public static KeyCode Find(uint keysym)
    {
        if (keysym is > 0 and < 0x7F)
        {
            int index = Plain.IndexOf((char)keysym);
            if (index < 0) index = Shifted.IndexOf((char)keysym);
            return index < 0 ? KeyCode.None : (KeyCode)Printable[index];
        }
        if (keysym is >= KeypadFirst and <= KeypadLast) return (KeyCode)Keypad[(int)(keysym - KeypadFirst)];
        if (keysym is >= F1 and <= F12)
            return keysym - F1 < 10 ? KeyCode.F1 + (ushort)(keysym - F1) : KeyCode.F11 + (ushort)(keysym - F1 - 10);
        return keysym switch
        {
            0xFF08 => KeyCode.Backspace, 0xFF09 or 0xFE20 => KeyCode.Tab, 0xFF0D => KeyCode.Ret, 0xFF1B => KeyCode.Esc,
            0xFF13 or 0xFF6B => KeyCode.Pause, 0xFF14 => KeyCode.ScrollLock, 0xFF15 => KeyCode.SysRq, 0xFF61 =>
                KeyCode.Print,
            0xFF50 => KeyCode.Home, 0xFF51 => KeyCode.Left, 0xFF52 => KeyCode.Up, 0xFF53 => KeyCode.Right, 0xFF54 =>
                KeyCode.Down,
            0xFF55 => KeyCode.PgUp, 0xFF56 => KeyCode.PgDn, 0xFF57 => KeyCode.End, 0xFF63 => KeyCode.Insert, 0xFFFF =>
                KeyCode.Delete,
            0xFF67 => KeyCode.Compose, 0xFF7F => KeyCode.NumLock, 0xFFE5 => KeyCode.CapsLock,
            0xFFE1 => KeyCode.Shift, 0xFFE2 => KeyCode.ShiftR, 0xFFE3 => KeyCode.Ctrl, 0xFFE4 => KeyCode.CtrlR,
            0xFFE9 or 0xFFE7 => KeyCode.Alt, 0xFFEA or 0xFFE8 or 0xFE03 or 0xFF7E => KeyCode.AltR,
            0xFFEB => KeyCode.MetaL, 0xFFEC => KeyCode.MetaR,
            0xFF8D => KeyCode.KpEnter, 0xFF95 => KeyCode.Kp7, 0xFF96 => KeyCode.Kp4, 0xFF97 => KeyCode.Kp8, 0xFF98 =>
                KeyCode.Kp6,
            0xFF99 => KeyCode.Kp2, 0xFF9A => KeyCode.Kp9, 0xFF9B => KeyCode.Kp3, 0xFF9C => KeyCode.Kp1, 0xFF9D =>
                KeyCode.Kp5,
            0xFF9E => KeyCode.Kp0, 0xFF9F => KeyCode.KpDecimal, 0xFFBD => KeyCode.Equal,
            _ => KeyCode.None,
        };
    }

    /// <summary>Whether it is a character of a US keyboard, no letter and no space, and whether that wants a shift key
    /// there.</summary>
    public static bool IsSymbol(uint keysym, out bool isShifted)
    {
        isShifted = false;
        if (keysym is <= ' ' or >= 0x7F || char.IsAsciiLetter((char)keysym)) return false;
        isShifted = Shifted.Contains((char)keysym);
        return true;
    }

    /// <summary>Whether it is on one of the keypad's keys that have two meanings, and which it has: the number (KP_0 to
    /// KP_9, KP_Decimal) or the movement (KP_Home to KP_Delete).</summary>
    public static bool IsKeypad(uint keysym, out bool isNumber)
    {
        isNumber = keysym is 0xFFAE or >= 0xFFB0 and <= 0xFFB9;
        return isNumber || keysym is >= 0xFF95 and <= 0xFF9F;
    }

    /// <summary>The shorter of a character's two names; the other members know no other.</summary>
    public static uint Short(uint keysym) => keysym is > Unicode and < Unicode + 0x100 ? keysym - Unicode : keysym;

    /// <summary>The scan code of a QEMU extended key event: set 1, bit 7 for the E0 prefix.</summary>
    public static KeyCode FromScanCode(uint code)
    {
        if (code == 0xC6) return KeyCode.Pause;
        var key = (KeyCode)(code < 0x80 ? code : 0xE000 | code & 0x7F);
        return code is > 0 and < 0x100 && Enum.IsDefined(key) ? key : KeyCode.None;
    }
}
