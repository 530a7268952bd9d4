using Qkvm.Core.Input;
using Qkvm.Core.State;

namespace Qkvm.Hw.Input;

/// <summary>A 102-key PS/2 keyboard. Spec: IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and
/// 102-key)".</summary>
/// <remarks>Deviations: keys do not repeat by themselves (the host's do); no power-on self-test report.</remarks>
public sealed class Ps2Keyboard : IKeyboardSink
{
    // Commands and replies
    const byte SetLeds = 0xED, Echo = 0xEE, SelectSet = 0xF0, ReadId = 0xF2, SetTypematic = 0xF3, EnableScanning = 0xF4,
        DisableScanning = 0xF5,
        SetDefaults = 0xF6, FirstSetAllKeys = 0xF7, LastSetAllKeys = 0xFA, FirstSetKeyType = 0xFB,
        LastSetKeyType = 0xFD, Resend = 0xFE, ResetAll = 0xFF;
    const byte Acknowledge = 0xFA, TestPassed = 0xAA, Id1 = 0xAB, Id2 = 0x83;
    const byte DefaultTypematic = 0x2B;
    const int BufferSize = 16, LongestKey = 8;

    readonly Action _changed;
    readonly ByteQueue _keys = new(BufferSize), _replies = new(BufferSize);
    byte _pendingCommand, _set, _leds, _typematic, _last;
    bool _scanning;
    bool _alt, _ctrl, _shift;

    /// <param name="changed">It may have bytes to read.</param>
    public Ps2Keyboard(Action changed)
    {
        _changed = changed;
        Reset();
    }

    public bool HasData => _replies.Count + _keys.Count > 0;

    public bool HasRoom => !_scanning || _keys.Room >= LongestKey;
    public KeyboardLocks Lights => (KeyboardLocks)_leds;
    public event Action? Changed;

    public void Reset()
    {
        _pendingCommand = _last = 0;
        _alt = _ctrl = _shift = false;
        _replies.Clear();
        Default();
        _scanning = true;
    }

    /// <summary>The next byte to the controller; replies go before keys.</summary>
    public byte Read() => _last = _replies.Count > 0 ? _replies.Pop() : _keys.Pop();

    /// <summary>The controller is done with what it was doing, and new keys may come.</summary>
    public void Settle() => Changed?.Invoke();

    /// <summary>A byte from the controller: a command or its argument.</summary>
    public void Write(byte data)
    {
        byte command = _pendingCommand;
        _pendingCommand = 0;
        if (command != 0 && data < SetLeds) Argument(command, data);
        else Command(data);
        _changed();
    }

    public void Key(KeyCode key, bool down)
    {
        switch (key)
        {
            case KeyCode.Alt or KeyCode.AltR: _alt = down; break;
            case KeyCode.Ctrl or KeyCode.CtrlR: _ctrl = down; break;
            case KeyCode.Shift or KeyCode.ShiftR: _shift = down; break;
        }
        // the buffer overruns: the key is lost
        if (!_scanning || key == KeyCode.None || _keys.Room < LongestKey) return;
        if (key == KeyCode.Print && _alt) key = KeyCode.SysRq;
        if (_set == 3) Put(ScanCodes.Set3(key), extended: false, down);
        else if (key == KeyCode.Pause) PutPause(down);
        else if (key == KeyCode.Print && !_ctrl && !_shift) PutPrint(down);
        else Put(Code((byte)key), (ushort)key > 0xFF, down);
        _changed();
    }

    public void Exchange(StateStream state)
    {
        state.Field("pending-command", ref _pendingCommand);
        state.Field("set", ref _set);
        state.Field("leds", ref _leds);
        state.Field("typematic", ref _typematic);
        state.Field("last", ref _last);
        state.Field("scanning", ref _scanning);
        state.Field("alt", ref _alt);
        state.Field("ctrl", ref _ctrl);
        state.Field("shift", ref _shift);
        _keys.Exchange(state, "keys");
        _replies.Exchange(state, "replies");
        if (_set is < 1 or > 3) throw new InvalidStateException("ps2-keyboard: impossible scan code set");
    }

    void Default()
    {
        _set = 2;
        _typematic = DefaultTypematic;
        _leds = 0;
        _keys.Clear();
    }

    void Command(byte command)
    {
        switch (command)
        {
            case SetLeds or SelectSet or SetTypematic or (>= FirstSetKeyType and <= LastSetKeyType):
                _pendingCommand = command;
                Reply(Acknowledge);
                break;
            case Echo: Reply(Echo); break;
            case ReadId:
                Reply(Acknowledge);
                Reply(Id1);
                Reply(Id2);
                break;
            case EnableScanning:
                _keys.Clear();
                _scanning = true;
                Reply(Acknowledge);
                break;
            case DisableScanning:
                Default();
                _scanning = false;
                Reply(Acknowledge);
                break;
            case SetDefaults:
                Default();
                _scanning = true;
                Reply(Acknowledge);
                break;
            case >= FirstSetAllKeys and <= LastSetAllKeys: Reply(Acknowledge); break;
            case Resend: Reply(_last); break;
            case ResetAll:
                Default();
                _scanning = true;
                _replies.Clear();
                Reply(Acknowledge);
                Reply(TestPassed);
                break;
            default: Reply(Resend); break;
        }
    }

    void Argument(byte command, byte data)
    {
        switch (command)
        {
            case SelectSet when data > 3: Reply(Resend); return;
            case SelectSet when data == 0:
                Reply(Acknowledge);
                Reply(_set);
                return;
            case SelectSet: _set = data; break;
            case SetLeds: _leds = (byte)(data & 7); break;
            case SetTypematic: _typematic = data; break;
        }
        Reply(Acknowledge);
    }

    void Reply(byte value) => _replies.TryPush(value);

    byte Code(byte set1) => _set == 1 ? set1 : ScanCodes.Set2(set1);

    void Put(byte code, bool extended, bool down)
    {
        if (extended) _keys.TryPush(ScanCodes.Extended);
        if (!down && _set != 1) _keys.TryPush(ScanCodes.Break);
        _keys.TryPush(!down && _set == 1 ? (byte)(code | ScanCodes.Set1Break) : code);
    }

    /// <summary>Print Screen wraps itself in a shift.</summary>
    void PutPrint(bool down)
    {
        byte shift = Code((byte)KeyCode.Shift), print = Code(unchecked((byte)KeyCode.Print));
        Put(down ? shift : print, extended: true, down);
        Put(down ? print : shift, extended: true, down);
    }

    /// <summary>Pause is Ctrl and Num Lock pressed and released at once; with Ctrl it is Break, an extended Scroll
    /// Lock.</summary>
    void PutPause(bool down)
    {
        if (!down) return;
        byte first = _ctrl ? Code((byte)KeyCode.ScrollLock) : Code((byte)KeyCode.Ctrl),
            second = Code((byte)KeyCode.NumLock);
        if (_ctrl)
        {
            Put(first, extended: true, down: true);
            Put(first, extended: true, down: false);
            return;
        }
        _keys.TryPush(ScanCodes.PausePrefix);
        Put(first, extended: false, down: true);
        Put(second, extended: false, down: true);
        _keys.TryPush(ScanCodes.PausePrefix);
        Put(first, extended: false, down: false);
        Put(second, extended: false, down: false);
    }
}
