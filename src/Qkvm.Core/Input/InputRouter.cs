namespace Qkvm.Core.Input;

[Flags]
public enum MouseButtons : byte { None = 0, Left = 1, Right = 2, Middle = 4, Side = 8, Extra = 16 }

public interface IKeyboardSink { void Key(KeyCode key, bool down); }

public interface IPointerSink
{
    /// <summary>True: it takes positions (a tablet); false: movements (a mouse).</summary>
    bool IsAbsolute { get; }

    /// <summary>Relative: movement in pixels, y down. Absolute: 0..32767 across the screen. Wheel: notches, down positive.</summary>
    void Pointer(int x, int y, int wheel, MouseButtons buttons);
}

/// <summary>Takes keys and pointer moves from VNC or the monitor to the guest's devices: the newest sink of a kind wins.
/// Under the machine lock.</summary>
public sealed class InputRouter
{
    readonly List<IKeyboardSink> _keyboards = [];
    readonly List<IPointerSink> _pointers = [];

    public void Add(IKeyboardSink keyboard) => _keyboards.Insert(0, keyboard);
    public void Add(IPointerSink pointer) => _pointers.Insert(0, pointer);
    public void Remove(IKeyboardSink keyboard) => _keyboards.Remove(keyboard);
    public void Remove(IPointerSink pointer) => _pointers.Remove(pointer);

    public bool PointerIsAbsolute => _pointers.Count > 0 && _pointers[0].IsAbsolute;

    public void Key(KeyCode key, bool down)
    {
        if (_keyboards.Count > 0) _keyboards[0].Key(key, down);
    }

    public void Pointer(int x, int y, int wheel, MouseButtons buttons)
    {
        if (_pointers.Count > 0) _pointers[0].Pointer(x, y, wheel, buttons);
    }
}
