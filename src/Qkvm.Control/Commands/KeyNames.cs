using Qkvm.Core.Input;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>sendkey's names.</summary>
static class KeyNames
{
    static readonly Dictionary<string, KeyCode> Special = new()
    {
        ["ret"] = KeyCode.Ret, ["spc"] = KeyCode.Spc, ["esc"] = KeyCode.Esc, ["tab"] = KeyCode.Tab, ["backspace"]
        = KeyCode.Backspace,
        ["minus"] = KeyCode.Minus, ["equal"] = KeyCode.Equal, ["bracket_left"] = KeyCode.BracketLeft, ["bracket_right"]
        = KeyCode.BracketRight,
        ["semicolon"] = KeyCode.Semicolon, ["apostrophe"] = KeyCode.Apostrophe, ["grave_accent"] = KeyCode.GraveAccent,
        ["backslash"] = KeyCode.Backslash, ["comma"] = KeyCode.Comma, ["dot"] = KeyCode.Dot, ["slash"]
        = KeyCode.Slash, ["asterisk"] = KeyCode.KpMultiply,
        ["shift"] = KeyCode.Shift, ["shift_r"] = KeyCode.ShiftR, ["ctrl"] = KeyCode.Ctrl, ["ctrl_r"]
        = KeyCode.CtrlR, ["alt"] = KeyCode.Alt, ["alt_r"] = KeyCode.AltR,
        ["meta_l"] = KeyCode.MetaL, ["meta_r"] = KeyCode.MetaR, ["menu"] = KeyCode.Compose, ["compose"]
        = KeyCode.Compose,
        ["caps_lock"] = KeyCode.CapsLock, ["num_lock"] = KeyCode.NumLock, ["scroll_lock"] = KeyCode.ScrollLock,
        ["up"] = KeyCode.Up, ["down"] = KeyCode.Down, ["left"] = KeyCode.Left, ["right"] = KeyCode.Right, ["home"]
        = KeyCode.Home, ["end"] = KeyCode.End,
        ["pgup"] = KeyCode.PgUp, ["pgdn"] = KeyCode.PgDn, ["insert"] = KeyCode.Insert, ["delete"] = KeyCode.Delete,
        ["sysrq"] = KeyCode.SysRq, ["print"] = KeyCode.Print, ["pause"] = KeyCode.Pause, ["less"]
        = KeyCode.Less, ["power"] = KeyCode.Power,
        ["kp_enter"] = KeyCode.KpEnter, ["kp_divide"] = KeyCode.KpDivide, ["kp_multiply"]
        = KeyCode.KpMultiply, ["kp_add"] = KeyCode.KpAdd,
        ["kp_subtract"] = KeyCode.KpSubtract, ["kp_decimal"] = KeyCode.KpDecimal, ["kp_0"] = KeyCode.Kp0, ["kp_1"]
        = KeyCode.Kp1, ["kp_2"] = KeyCode.Kp2,
        ["kp_3"] = KeyCode.Kp3, ["kp_4"] = KeyCode.Kp4, ["kp_5"] = KeyCode.Kp5, ["kp_6"] = KeyCode.Kp6, ["kp_7"]
        = KeyCode.Kp7, ["kp_8"] = KeyCode.Kp8, ["kp_9"] = KeyCode.Kp9,
    };

    /// <summary>For completion.</summary>
    public static IEnumerable<string> All => Special.Keys
        .Concat(Enum.GetNames<KeyCode>().Where(name => name.Length <= 3).Select(name => name.ToLowerInvariant()))
        .Where(name => Known(name) != null);

    public static KeyCode Find(string name) => Known(name) ?? throw new CommandException($"invalid parameter: {name}");

    public static bool IsKnown(string name) => Known(name) != null;

    static KeyCode? Known(string name)
    {
        if (Special.TryGetValue(name, out KeyCode key)) return key;
        string word = name.Length == 1 && char.IsAsciiDigit(name[0]) ? "D" + name : name.ToUpperInvariant();
        bool plain = name.Length == 1 || (name.Length is 2 or 3 && name[0] is 'f' or 'F');
        if (plain && Enum.TryParse(word, out key) && key != KeyCode.None) return key;
        return null;
    }
}
