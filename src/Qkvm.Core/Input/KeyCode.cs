namespace Qkvm.Core.Input;

/// <summary>Keys by place on a PC keyboard. The value is the PS/2 set 1 scan code; 0xE000 marks the E0 prefix.
/// Names are those of QEMU's sendkey, in C# letters.</summary>
public enum KeyCode : ushort
{
    None = 0, Esc = 0x01,
    D1 = 0x02, D2, D3, D4, D5, D6, D7, D8, D9, D0, Minus, Equal, Backspace,
    Tab = 0x0F, Q, W, E, R, T, Y, U, I, O, P, BracketLeft, BracketRight, Ret,
    Ctrl = 0x1D, A, S, D, F, G, H, J, K, L, Semicolon, Apostrophe, GraveAccent,
    Shift = 0x2A, Backslash, Z, X, C, V, B, N, M, Comma, Dot, Slash, ShiftR,
    KpMultiply = 0x37, Alt = 0x38, Spc = 0x39, CapsLock = 0x3A,
    F1 = 0x3B, F2, F3, F4, F5, F6, F7, F8, F9, F10, NumLock = 0x45, ScrollLock = 0x46,
    Kp7 = 0x47, Kp8, Kp9, KpSubtract, Kp4, Kp5, Kp6, KpAdd, Kp1, Kp2, Kp3, Kp0, KpDecimal,
    SysRq = 0x54, Less = 0x56, F11 = 0x57, F12 = 0x58,
    Ro = 0x73, Henkan = 0x79, Muhenkan = 0x7B, Yen = 0x7D, KpComma = 0x7E,
    KpEnter = 0xE01C, CtrlR = 0xE01D, KpDivide = 0xE035, Print = 0xE037, AltR = 0xE038,
    Home = 0xE047, Up = 0xE048, PgUp = 0xE049, Left = 0xE04B, Right = 0xE04D, End = 0xE04F,
    Down = 0xE050, PgDn = 0xE051, Insert = 0xE052, Delete = 0xE053,
    MetaL = 0xE05B, MetaR = 0xE05C, Compose = 0xE05D, Power = 0xE05E, Sleep = 0xE05F, Wake = 0xE063,
    /// <summary>E1 1D 45; it has no release code.</summary>
    Pause = 0xE11D,
}
