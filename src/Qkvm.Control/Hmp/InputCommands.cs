using Qkvm.Core.Input;

namespace Qkvm.Control.Hmp;

/// <summary>Commands that press keys and move the mouse.</summary>
static class InputCommands
{
    static readonly TimeSpan DefaultHold = TimeSpan.FromMilliseconds(100);

    public static readonly MonitorCommand[] All =
    [
        new("sendkey", "keys [hold_ms]", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold time=100 ms)", SendKey),
        new("mouse_move", "dx dy [dz]", "send mouse move events", (m, a) =>
            m.Machine.Board.Input.Pointer(Signed(a, "dx"), Signed(a, "dy"), a.Left > 0 ? Signed(a, "dz") : 0, MouseButtons.None)),
        new("mouse_button", "state", "change mouse button state (1=L, 2=M, 4=R)", (m, a) =>
        {
            ulong state = a.Number("state");
            MouseButtons buttons = ((state & 1) != 0 ? MouseButtons.Left : 0) | ((state & 2) != 0 ? MouseButtons.Middle : 0) | ((state & 4) != 0 ? MouseButtons.Right : 0);
            m.Machine.Board.Input.Pointer(0, 0, 0, buttons);
        }),
    ];

    static int Signed(MonitorArguments arguments, string what) =>
        int.TryParse(arguments.Word(what), out int value) ? value : throw new MonitorException($"{what}: number expected");

    static void SendKey(IMonitor monitor, MonitorArguments arguments)
    {
        KeyCode[] keys = [.. arguments.Word("keys").Split('-').Select(KeyNames.Find)];
        TimeSpan hold = arguments.Left > 0 ? TimeSpan.FromMilliseconds(Math.Min(arguments.Number("hold_ms"), 10_000)) : DefaultHold;
        InputRouter input = monitor.Machine.Board.Input;
        foreach (KeyCode key in keys) input.Key(key, true);
        // The keys come up later; the monitor does not wait for them.
        var board = monitor.Machine.Board;
        _ = Task.Delay(hold).ContinueWith(_ => board.Post(() => { foreach (KeyCode key in Enumerable.Reverse(keys)) input.Key(key, false); }), TaskScheduler.Default);
    }
}

/// <summary>sendkey's names.</summary>
static class KeyNames
{
    static readonly Dictionary<string, KeyCode> Special = new()
    {
        ["ret"] = KeyCode.Ret, ["spc"] = KeyCode.Spc, ["esc"] = KeyCode.Esc, ["tab"] = KeyCode.Tab, ["backspace"] = KeyCode.Backspace,
        ["minus"] = KeyCode.Minus, ["equal"] = KeyCode.Equal, ["bracket_left"] = KeyCode.BracketLeft, ["bracket_right"] = KeyCode.BracketRight,
        ["semicolon"] = KeyCode.Semicolon, ["apostrophe"] = KeyCode.Apostrophe, ["grave_accent"] = KeyCode.GraveAccent,
        ["backslash"] = KeyCode.Backslash, ["comma"] = KeyCode.Comma, ["dot"] = KeyCode.Dot, ["slash"] = KeyCode.Slash, ["asterisk"] = KeyCode.KpMultiply,
        ["shift"] = KeyCode.Shift, ["shift_r"] = KeyCode.ShiftR, ["ctrl"] = KeyCode.Ctrl, ["ctrl_r"] = KeyCode.CtrlR, ["alt"] = KeyCode.Alt, ["alt_r"] = KeyCode.AltR,
        ["meta_l"] = KeyCode.MetaL, ["meta_r"] = KeyCode.MetaR, ["menu"] = KeyCode.Compose, ["compose"] = KeyCode.Compose,
        ["caps_lock"] = KeyCode.CapsLock, ["num_lock"] = KeyCode.NumLock, ["scroll_lock"] = KeyCode.ScrollLock,
        ["up"] = KeyCode.Up, ["down"] = KeyCode.Down, ["left"] = KeyCode.Left, ["right"] = KeyCode.Right, ["home"] = KeyCode.Home, ["end"] = KeyCode.End,
        ["pgup"] = KeyCode.PgUp, ["pgdn"] = KeyCode.PgDn, ["insert"] = KeyCode.Insert, ["delete"] = KeyCode.Delete,
        ["sysrq"] = KeyCode.SysRq, ["print"] = KeyCode.Print, ["pause"] = KeyCode.Pause, ["less"] = KeyCode.Less, ["power"] = KeyCode.Power,
        ["kp_enter"] = KeyCode.KpEnter, ["kp_divide"] = KeyCode.KpDivide, ["kp_multiply"] = KeyCode.KpMultiply, ["kp_add"] = KeyCode.KpAdd,
        ["kp_subtract"] = KeyCode.KpSubtract, ["kp_decimal"] = KeyCode.KpDecimal, ["kp_0"] = KeyCode.Kp0, ["kp_1"] = KeyCode.Kp1, ["kp_2"] = KeyCode.Kp2,
        ["kp_3"] = KeyCode.Kp3, ["kp_4"] = KeyCode.Kp4, ["kp_5"] = KeyCode.Kp5, ["kp_6"] = KeyCode.Kp6, ["kp_7"] = KeyCode.Kp7, ["kp_8"] = KeyCode.Kp8, ["kp_9"] = KeyCode.Kp9,
    };

    public static KeyCode Find(string name)
    {
        if (Special.TryGetValue(name, out KeyCode key)) return key;
        string word = name.Length == 1 && char.IsAsciiDigit(name[0]) ? "D" + name : name.ToUpperInvariant();
        bool plain = name.Length == 1 || (name.Length is 2 or 3 && name[0] is 'f' or 'F');
        if (plain && Enum.TryParse(word, out key)) return key;
        throw new MonitorException($"unknown key: '{name}'");
    }
}
