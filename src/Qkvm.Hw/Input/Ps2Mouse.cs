using Qkvm.Core.Input;
using Qkvm.Core.State;

namespace Qkvm.Hw.Input;

/// <summary>A PS/2 mouse with wheel: standard, IntelliMouse and IntelliMouse Explorer packets. Spec: IBM PS/2 Hardware
/// Interface Technical Reference, "Auxiliary Devices"; Microsoft's "Mouse wheel support" for the sample rate
/// knocks.</summary>
/// <remarks>Deviations: movements are reported as they come, not at the sample rate; 2:1 scaling is only
/// remembered.</remarks>
public sealed class Ps2Mouse : IPointerSink
{
    // Commands and replies
    const byte SetScaling1 = 0xE6, SetScaling2 = 0xE7, SetResolution = 0xE8, GetStatus = 0xE9, SetStream = 0xEA,
        Poll = 0xEB, ResetWrap = 0xEC,
        SetWrap = 0xEE, SetRemote = 0xF0, ReadType = 0xF2, SetSample = 0xF3, EnableReporting = 0xF4,
        DisableReporting = 0xF5, SetDefaults = 0xF6,
        Resend = 0xFE, ResetAll = 0xFF;
    const byte Acknowledge = 0xFA, TestPassed = 0xAA, Standard = 0, IntelliMouse = 3, Explorer = 4;
    const byte StatusRemote = 0x40, StatusEnabled = 0x20, StatusScaling2 = 0x10;
    const byte AlwaysOne = 0x08, NegativeX = 0x10, NegativeY = 0x20; // first byte of a packet
    const int BufferSize = 16, MaxStep = 127, MaxWheel = 7, MaxPending = 0x7FFF;
    const uint KnockIntelliMouse = 200 << 16 | 100 << 8 | 80, KnockExplorer = 200 << 16 | 200 << 8 | 80;

    readonly Action _changed;
    readonly ByteQueue _packets = new(BufferSize), _replies = new(BufferSize);
    byte _pendingCommand, _type, _resolution, _sampleRate, _last;
    uint _knock;                                                   // the last three sample rates
    bool _remote, _reporting, _scaling2, _wrap;
    int _dx, _dy, _dz;                                             // not yet reported; y up
    byte _buttons, _reportedButtons;

    public Ps2Mouse(Action changed)
    {
        _changed = changed;
        Reset();
    }

    public string Name => "QEMU PS/2 Mouse";
    public bool IsAbsolute => false;
    public bool HasData => _replies.Count + _packets.Count > 0;

    int PacketSize => _type == Standard ? 3 : 4;

    public void Reset()
    {
        _pendingCommand = _last = 0;
        _buttons = _reportedButtons = 0;
        _replies.Clear();
        Default();
        _type = Standard;
    }

    public byte Read()
    {
        _last = _replies.Count > 0 ? _replies.Pop() : _packets.Pop();
        Report();
        return _last;
    }

    public void Write(byte data)
    {
        byte command = _pendingCommand;
        _pendingCommand = 0;
        if (_wrap && data is not (ResetWrap or ResetAll)) Reply(data);
        else if (command != 0) Argument(command, data);
        else Command(data);
        _changed();
    }

    public void Pointer(int x, int y, int wheel, MouseButtons buttons)
    {
        _dx = Math.Clamp(_dx + Math.Clamp(x, -MaxPending, MaxPending), -MaxPending, MaxPending);
        _dy = Math.Clamp(_dy - Math.Clamp(y, -MaxPending, MaxPending), -MaxPending, MaxPending);
        _dz = Math.Clamp(_dz + Math.Clamp(wheel, -MaxPending, MaxPending), -MaxPending, MaxPending);
        _buttons = (byte)buttons;
        if (!_reporting)
        {
            _dx = _dy = _dz = 0;
            return;
        }
        Report();
        _changed();
    }

    public void Exchange(StateStream state)
    {
        state.Field("pending-command", ref _pendingCommand);
        state.Field("type", ref _type);
        state.Field("resolution", ref _resolution);
        state.Field("sample-rate", ref _sampleRate);
        state.Field("last", ref _last);
        state.Field("knock", ref _knock);
        state.Field("remote", ref _remote);
        state.Field("reporting", ref _reporting);
        state.Field("scaling2", ref _scaling2);
        state.Field("wrap", ref _wrap);
        state.Field("dx", ref _dx);
        state.Field("dy", ref _dy);
        state.Field("dz", ref _dz);
        state.Field("buttons", ref _buttons);
        state.Field("reported-buttons", ref _reportedButtons);
        _packets.Exchange(state, "packets");
        _replies.Exchange(state, "replies");
        if (_type is not (Standard or IntelliMouse or Explorer) || Math.Abs((long)_dx) > MaxPending
            || Math.Abs((long)_dy) > MaxPending
            || Math.Abs((long)_dz) > MaxPending)
            throw new InvalidStateException("ps2-mouse: impossible state");
    }

    void Default()
    {
        _resolution = 2;
        _sampleRate = 100;
        _knock = 0;
        _remote = _reporting = _scaling2 = _wrap = false;
        _dx = _dy = _dz = 0;
        _packets.Clear();
    }

    void Command(byte command)
    {
        switch (command)
        {
            case SetScaling1: _scaling2 = false; break;
            case SetScaling2: _scaling2 = true; break;
            case SetResolution or SetSample: _pendingCommand = command; break;
            case SetStream: _remote = false; break;
            case SetRemote: _remote = true; break;
            case SetWrap: _wrap = true; break;
            case ResetWrap: _wrap = false; break;
            case EnableReporting:
                _packets.Clear();
                _reporting = true;
                break;
            case DisableReporting: _reporting = false; break;
            case SetDefaults: Default(); break;
            case GetStatus or Poll or ReadType or ResetAll: break;
            case Resend: Reply(_last); return;
            default: Reply(Resend); return;
        }
        if (command == ResetAll) Reset();
        Reply(Acknowledge);
        switch (command)
        {
            case GetStatus:
                Reply((byte)((_remote ? StatusRemote : 0) | (_reporting ? StatusEnabled : 0) | (_scaling2
                    ? StatusScaling2 : 0)
                    | (_buttons & 1) << 2 | (_buttons & 4) >> 1 | (_buttons & 2) >> 1));
                Reply(_resolution);
                Reply(_sampleRate);
                break;
            case Poll: PutPacket(_replies); break;
            case ReadType: Reply(_type); break;
            case ResetAll:
                Reply(TestPassed);
                Reply(_type);
                break;
        }
    }

    void Argument(byte command, byte data)
    {
        if (command == SetResolution) _resolution = data;
        else
        {
            _sampleRate = data;
            _knock = (_knock << 8 | data) & 0xFFFFFF;
            if (_knock == KnockIntelliMouse && _type == Standard) _type = IntelliMouse;
            else if (_knock == KnockExplorer) _type = Explorer;
        }
        Reply(Acknowledge);
    }

    void Reply(byte value) => _replies.TryPush(value);

    void Report()
    {
        while (_reporting && !_remote && _packets.Room >= PacketSize
            && (_dx != 0 || _dy != 0 || _dz != 0 || _buttons != _reportedButtons))
            PutPacket(_packets);
    }

    void PutPacket(ByteQueue target)
    {
        int x = Math.Clamp(_dx, -MaxStep, MaxStep), y = Math.Clamp(_dy, -MaxStep, MaxStep),
            z = Math.Clamp(_dz, -MaxWheel, MaxWheel);
        (_dx, _dy) = (_dx - x, _dy - y);
        _reportedButtons = _buttons;
        target.TryPush((byte)(AlwaysOne | _buttons & 7 | (x < 0 ? NegativeX : 0) | (y < 0 ? NegativeY : 0)));
        target.TryPush((byte)x);
        target.TryPush((byte)y);
        _dz = _type == Standard ? 0 : _dz - z;
        if (_type == IntelliMouse) target.TryPush((byte)z);
        if (_type == Explorer) target.TryPush((byte)(z & 0x0F | (_buttons & 0x18) << 1));
    }
}
