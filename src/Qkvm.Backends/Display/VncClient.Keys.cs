using Qkvm.Core.Input;

namespace Qkvm.Backends.Display;

/// <summary>Keys. Viewers name what a key stands for on the keyboard of their user, with their locks and their layout;
/// the guest has its own locks, and as far as we know a US keyboard. Spec: RFC 6143, section 7.5.4.</summary>
sealed partial class VncClient
{
    const uint Level3Shift = 0xFE03, ModeSwitch = 0xFF7E;          // AltGr

    readonly HashSet<KeyCode> _pressed = [];
    bool _altGr;

    /// <summary>KeyEvent: a keysym. Of what that user's keyboard has on other keys or with other shift keys, the guest
    /// sees the shift keys that a US keyboard needs for it.</summary>
    void TakeKey(uint keysym, bool down)
    {
        KeyCode key = Keysyms.Find(keysym);
        if (keysym is Level3Shift or ModeSwitch) _altGr = down;
        if (down) SyncLocks(keysym);
        if (!down || !Keysyms.IsSymbol(keysym, out bool isShifted)) { Press(key, down); return; }
        bool shifted = IsShifted;
        Span<KeyCode> lifted = stackalloc KeyCode[3];
        int count = 0;
        if (shifted && !isShifted)
        {
            if (_pressed.Contains(KeyCode.Shift)) lifted[count++] = KeyCode.Shift;
            if (_pressed.Contains(KeyCode.ShiftR)) lifted[count++] = KeyCode.ShiftR;
        }
        if (_altGr && _pressed.Contains(KeyCode.AltR)) lifted[count++] = KeyCode.AltR;
        foreach (KeyCode held in lifted[..count]) _server.Key(held, false);
        if (isShifted && !shifted) _server.Key(KeyCode.Shift, true);
        Press(key, true);
        if (isShifted && !shifted) _server.Key(KeyCode.Shift, false);
        foreach (KeyCode held in lifted[..count]) _server.Key(held, true);
    }

    /// <summary>QEMU Extended Key Event: a key by its place, which needs no keyboard layout, and its keysym.</summary>
    void TakeScanCode(uint keysym, uint code, bool down)
    {
        KeyCode key = Keysyms.FromScanCode(code);
        if (key == KeyCode.None) { TakeKey(keysym, down); return; }
        if (down) SyncLocks(keysym);
        Press(key, down);
    }

    bool IsShifted => _pressed.Contains(KeyCode.Shift) || _pressed.Contains(KeyCode.ShiftR);

    /// <summary>A keysym shows the viewer's locks: "A" without a shift key is Caps Lock. Where the guest's differ, it
    /// gets a press of the lock first.</summary>
    void SyncLocks(uint keysym)
    {
        if (!_server.SyncsLocks) return;
        if (keysym is >= 'A' and <= 'Z' or >= 'a' and <= 'z')
            Sync(KeyCode.CapsLock, KeyboardLocks.Caps, keysym <= 'Z' != IsShifted);
        else if (!IsShifted && Keysyms.IsKeypad(keysym, out bool isNumber))
            Sync(KeyCode.NumLock, KeyboardLocks.Num, isNumber);

        void Sync(KeyCode key, KeyboardLocks which, bool wanted)
        {
            if ((_server.Input.Locks & which) != 0 == wanted) return;
            _server.Key(key, true);
            _server.Key(key, false);
        }
    }

    void Press(KeyCode key, bool down)
    {
        if (key == KeyCode.None) return;
        if (down) _pressed.Add(key);
        else _pressed.Remove(key);
        _server.Key(key, down);
        _server.Schedule(soon: true);
    }

    /// <summary>A viewer that left holds no key and no button.</summary>
    void ReleaseKeys()
    {
        foreach (KeyCode key in _pressed) _server.Key(key, false);
        _pressed.Clear();
        if (_buttons == 0) return;
        if (_server.Input.PointerIsAbsolute)
            _server.Input.Pointer(Scale(_pointerX, _width), Scale(_pointerY, _height), 0, MouseButtons.None);
        else _server.Input.Pointer(0, 0, 0, MouseButtons.None);
    }
}
