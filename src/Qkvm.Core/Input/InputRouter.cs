using Qkvm.Core.Time;

namespace Qkvm.Core.Input;

[Flags]
public enum MouseButtons : byte { None = 0, Left = 1, Right = 2, Middle = 4, Side = 8, Extra = 16 }

/// <summary>The bits of a PS/2 keyboard's lights.</summary>
[Flags]
public enum KeyboardLocks : byte { None = 0, Scroll = 1, Num = 2, Caps = 4 }

/// <summary>A guest's keyboard. Under the machine lock.</summary>
public interface IKeyboardSink
{
    void Key(KeyCode key, bool down);

    /// <summary>It has room for another key; without, the key would be lost.</summary>
    bool HasRoom { get; }

    /// <summary>The lights, as the guest has set them.</summary>
    KeyboardLocks Lights { get; }

    /// <summary>Room or lights may have changed.</summary>
    event Action? Changed;
}

public interface IPointerSink
{
    /// <summary>As `info mice` shows it: "QEMU PS/2 Mouse".</summary>
    string Name => "mouse";

    /// <summary>True: it takes positions (a tablet); false: movements (a mouse).</summary>
    bool IsAbsolute { get; }

    /// <summary>Relative: movement in pixels, y down. Absolute: 0..32767 across the screen. Wheel: notches, down
    /// positive.</summary>
    void Pointer(int x, int y, int wheel, MouseButtons buttons);
}

/// <summary>Takes keys and pointer moves from VNC or the monitor to the guest's devices: the newest sink of a kind
/// wins. Under the machine lock.</summary>
public sealed class InputRouter
{
    const int MaxWaiting = 1024, FirstPointer = 2;                 // behind the keyboard, as QEMU counts
    const long NanosecondsPerMillisecond = 1_000_000;

    readonly List<IKeyboardSink> _keyboards = [];
    readonly List<IPointerSink> _pointers = [];
    readonly Queue<(KeyCode Key, bool Down, int Delay)> _waiting = new();
    readonly Dictionary<IPointerSink, int> _numbers = [];
    int _nextNumber = FirstPointer;
    readonly HashSet<KeyCode> _held = [];
    readonly IVirtualClock? _clock;
    readonly IVmTimer? _pause;
    bool _isPausing;
    KeyboardLocks _lights;
    MouseButtons _buttons;
    int _x, _y;                                                    // where the last position was

    /// <param name="clock">Null: no key waits for the one before.</param>
    public InputRouter(IVirtualClock? clock = null)
    {
        _clock = clock;
        _pause = clock?.CreateTimer(() =>
        {
            _isPausing = false;
            Deliver();
        });
    }

    public void Add(IKeyboardSink keyboard) => Insert(0, keyboard);

    /// <summary>It gets nothing until it is preferred, unless it is the only one.</summary>
    public void AddBehind(IKeyboardSink keyboard)
    {
        if (_keyboards.Count > 0) _nextNumber++;                   // QEMU counts keyboards, too
        Insert(_keyboards.Count, keyboard);
    }

    void Insert(int place, IKeyboardSink keyboard)
    {
        _keyboards.Insert(place, keyboard);
        keyboard.Changed += OnKeyboardChanged;
    }

    /// <summary>From now on this one gets the keys.</summary>
    public void Prefer(IKeyboardSink keyboard)
    {
        if (_keyboards.Remove(keyboard)) _keyboards.Insert(0, keyboard);
        OnKeyboardChanged();
    }

    public void Add(IPointerSink pointer)
    {
        _pointers.Insert(0, pointer);
        _numbers.Add(pointer, _nextNumber++);
    }

    /// <summary>It gets nothing until it is preferred, unless it is the only one.</summary>
    public void AddBehind(IPointerSink pointer)
    {
        _pointers.Add(pointer);
        _numbers.Add(pointer, _nextNumber++);
    }

    /// <summary>Those that there are, each with a number that stays its own; the first gets what the user
    /// does.</summary>
    public IEnumerable<(int Number, IPointerSink Pointer)> Pointers => _pointers.Select(p => (_numbers[p], p));

    /// <summary>From now on this one gets what the user does.</summary>
    public void Prefer(IPointerSink pointer)
    {
        _pointers.Remove(pointer);
        _pointers.Insert(0, pointer);
    }

    public void Remove(IKeyboardSink keyboard)
    {
        keyboard.Changed -= OnKeyboardChanged;
        _keyboards.Remove(keyboard);
    }

    public void Remove(IPointerSink pointer)
    {
        _pointers.Remove(pointer);
        _numbers.Remove(pointer);
    }

    public bool PointerIsAbsolute => _pointers.Count > 0 && _pointers[0].IsAbsolute;

    /// <summary>The locks that the guest has or will have when it has taken the keys that were pressed. Its lights
    /// tell, but they come later than the next key.</summary>
    public KeyboardLocks Locks { get; private set; }

    /// <summary>A key goes down or up. Keys that come faster than the guest takes them wait, so that none stays down
    /// for ever because its release was lost.</summary>
    /// <param name="delay">Milliseconds of the machine's time before the next one may follow.</param>
    public void Key(KeyCode key, bool down, int delay = 0)
    {
        if (_keyboards.Count == 0) return;
        Used?.Invoke();
        if (down)
        {
            if (_waiting.Count >= MaxWaiting) return;
            if (_held.Add(key)) Locks ^= LockOf(key);              // the first press, not its repetitions
        }
        else if (!_held.Remove(key) && _waiting.Count >= MaxWaiting) return;
        _waiting.Enqueue((key, down, delay));
        Deliver();
    }

    /// <summary>A key was pressed or let go, or a button of a pointer is down.</summary>
    public event Action? Used;

    /// <summary>The machine is reset: it never hears of keys that it has not taken.</summary>
    public void Reset()
    {
        _waiting.Clear();
        _pause?.Cancel();
        _isPausing = false;
        Locks = _lights = KeyboardLocks.None;
    }

    public void Pointer(int x, int y, int wheel, MouseButtons buttons)
    {
        if (_pointers.Count == 0) return;
        if (buttons != MouseButtons.None) Used?.Invoke();
        if (_pointers[0].IsAbsolute) (_x, _y) = (x, y);
        _buttons = buttons;
        _pointers[0].Pointer(x, y, wheel, buttons);
    }

    /// <summary>A movement, which the first pointer that takes such gets.</summary>
    public void Move(int dx, int dy, int wheel) =>
        _pointers.Find(p => !p.IsAbsolute)?.Pointer(dx, dy, wheel, _buttons);

    /// <summary>Buttons alone: a tablet stays where it is.</summary>
    public void Press(MouseButtons buttons) =>
        Pointer(PointerIsAbsolute ? _x : 0, PointerIsAbsolute ? _y : 0, 0, buttons);

    static KeyboardLocks LockOf(KeyCode key) => key switch
    {
        KeyCode.CapsLock => KeyboardLocks.Caps,
        KeyCode.NumLock => KeyboardLocks.Num,
        KeyCode.ScrollLock => KeyboardLocks.Scroll,
        _ => KeyboardLocks.None,
    };

    void Deliver()
    {
        while (_waiting.Count > 0 && !_isPausing && _keyboards.Count > 0 && _keyboards[0].HasRoom)
        {
            var (key, down, delay) = _waiting.Dequeue();
            _isPausing = delay > 0 && _pause != null;
            if (_isPausing) _pause!.ArmAt(_clock!.Nanoseconds + delay * NanosecondsPerMillisecond);
            _keyboards[0].Key(key, down);
        }
    }

    /// <summary>Lights that change are right; the others may be yet to change.</summary>
    void OnKeyboardChanged()
    {
        if (_keyboards.Count == 0) return;
        KeyboardLocks lights = _keyboards[0].Lights, changed = lights ^ _lights;
        Locks = Locks & ~changed | lights & changed;
        _lights = lights;
        Deliver();
    }
}
