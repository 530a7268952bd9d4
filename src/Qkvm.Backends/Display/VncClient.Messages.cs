using System.Buffers.Binary;
using Qkvm.Backends.Display.Encodings;
using Qkvm.Core.Input;

namespace Qkvm.Backends.Display;

/// <summary>What viewers say once they are introduced. Spec: RFC 6143, section 7.5, and the protocol's community
/// version.</summary>
sealed partial class VncClient
{
    const int MaxFence = 64, FenceHead = 9, LayoutHead = 8, LayoutScreen = 16;
    const int FirstPointerOffset = 0x7FFF;                         // of relative movements, "Pointer Motion Change"

    const byte SetPixelFormat = 0, SetEncodings = 2, FramebufferUpdateRequest = 3, KeyEvent = 4, PointerEvent = 5,
        ClientCutText = 6, EnableContinuousUpdates = 150, ClientFence = 248, PowerControl = 250, SetDesktopSize = 251,
        Qemu = 255;

    // Of Qemu
    const byte QemuKey = 0, QemuAudio = 1, AudioFormat = 2;

    // From the server
    const byte EndOfContinuousUpdates = 150, ServerFence = 248, ServerPower = 250;

    // Power control ("xvp"), version 1
    const byte PowerVersion = 1, PowerFailed = 0, PowerOffered = 1, PowerShutdown = 2, PowerReset = 4;

    readonly VncEncodings _encodings;
    PixelFormat _format = PixelFormat.TryParse(PixelFormat.ServerFormat)!;
    bool _mapPending, _isContinuous, _knowsContinuous, _knowsFence, _knowsPower;
    int _encodingsLeft, _skipped;
    int _pointerX = -1, _pointerY;
    byte _buttons;

    /// <summary>Takes one message, or a part of a long one, from the front; returns its length, or 0 until more has
    /// come.</summary>
    int Consume(ReadOnlySpan<byte> data)
    {
        if (data.IsEmpty) return 0;
        if (_phase == Phase.Tls) { Close(); return 0; }            // it talks before it is asked to
        if (_cutLength > 0) return GatherCutText(data);
        if (_skipped > 0)
        {
            int skipped = Math.Min(_skipped, data.Length);
            _skipped -= skipped;
            return skipped;
        }
        int length = _phase != Phase.Normal ? HandshakeLength : _encodingsLeft > 0 ? 4 : LengthOf(data);
        if (length == 0) { Close(); return 0; }
        if (data.Length < length) return 0;
        data = data[..length];
        if (_phase != Phase.Normal) TakeHandshake(data);
        else if (_encodingsLeft > 0) TakeEncoding(BinaryPrimitives.ReadInt32BigEndian(data));
        else TakeMessage(data);
        return length;
    }

    /// <summary>The part that is looked at as one; 0 for what the protocol lacks.</summary>
    static int LengthOf(ReadOnlySpan<byte> data) => data[0] switch
    {
        SetPixelFormat => 20,
        SetEncodings => 4,
        FramebufferUpdateRequest or EnableContinuousUpdates => 10,
        KeyEvent => 8,
        PointerEvent => 6,
        ClientCutText => 8,
        PowerControl => 4,
        ClientFence => data.Length < FenceHead ? FenceHead
            : data[8] <= MaxFence ? FenceHead + data[8] : 0,
        SetDesktopSize => LayoutHead,
        Qemu when data.Length < 2 => 2,
        Qemu => data[1] switch
        {
            QemuKey => 12,
            QemuAudio => data.Length >= 4 && data[3] == AudioFormat ? 10 : 4,
            _ => 0,
        },
        _ => 0,
    };

    void TakeMessage(ReadOnlySpan<byte> data)
    {
        switch (data[0])
        {
            case SetPixelFormat:
                if (PixelFormat.TryParse(data[4..]) is not { } format) { Close(); return; }
                _format = format;
                _mapPending = format.NeedsColorMap;
                break;
            case SetEncodings:
                _encodingsLeft = Word(data, 2);
                _encodings.Clear();
                break;
            case FramebufferUpdateRequest: TakeRequest(data[1] != 0, AreaOf(data)); break;
            case EnableContinuousUpdates: TakeContinuous(data[1] != 0, AreaOf(data)); break;
            case KeyEvent: TakeKey(Keysyms.Short(Dword(data, 4)), data[1] != 0); break;
            case PointerEvent: MovePointer(data[1], Word(data, 2), Word(data, 4)); break;
            case ClientCutText: BeginCutText((int)Dword(data, 4)); break;
            case ClientFence: AnswerFence(data); break;
            case PowerControl: PressButton(data[2], data[3]); break;
            case SetDesktopSize:
                _skipped = data[6] * LayoutScreen;                 // one screen: its size is the whole one's
                TakeLayout(Word(data, 2), Word(data, 4), data[6]);
                break;
            case Qemu when data[1] == QemuAudio: break;            // nobody told it that there is sound: it hears none
            case Qemu: TakeScanCode(Keysyms.Short(Dword(data, 4)), Dword(data, 8), Word(data, 2) != 0); break;
        }
    }

    static int Word(ReadOnlySpan<byte> data, int at) => BinaryPrimitives.ReadUInt16BigEndian(data[at..]);
    static uint Dword(ReadOnlySpan<byte> data, int at) => BinaryPrimitives.ReadUInt32BigEndian(data[at..]);

    static ScreenArea AreaOf(ReadOnlySpan<byte> data) =>
        new(Word(data, 2), Word(data, 4), Word(data, 6), Word(data, 8));

    /// <summary>The viewer lists them in the order it likes them.</summary>
    void TakeEncoding(int encoding)
    {
        _encodingsLeft--;
        _encodings.Take(encoding);
        switch (encoding)
        {
            case VncEncodings.PointerTypeChange: _pointerPending = true; break;
            case VncEncodings.LedState or VncEncodings.VmwareLedState: _lightsPending = true; break;
            case VncEncodings.ExtendedDesktopSize: _layoutPending = true; break;
            case VncEncodings.DesktopName when !_namePending: _namePending = true; break;
            case VncEncodings.Cursor or VncEncodings.AlphaCursor: _pointer = null; break;
            case VncEncodings.Clipboard when !_knowsClipboard: OfferClipboard(); break;
            case VncEncodings.ExtendedKeys: _keysPending = true; break;
            // A viewer learns by the first message of each that the server has it.
            case VncEncodings.ContinuousUpdates when !_knowsContinuous:
                _knowsContinuous = true;
                _output.Byte(EndOfContinuousUpdates);
                break;
            case VncEncodings.Power when _server.HasPower && !_knowsPower:
                _knowsPower = true;
                SayPower(PowerOffered);
                break;
            case VncEncodings.Fence when !_knowsFence:
                _knowsFence = true;
                SayFence(0x8000_0000, []);
                break;
        }
        Flush();
    }

    void TakeRequest(bool isIncremental, ScreenArea area)
    {
        area = Clip(area);
        if (!isIncremental) _tiles.Mark(area);                     // all of it again
        // Requests that have not been answered yet are answered together.
        Want(_isWaiting ? Join(area, _wanted) : area);
    }

    void TakeContinuous(bool isOn, ScreenArea area)
    {
        _isContinuous = isOn;
        if (isOn) { Want(Clip(area)); return; }
        _isWaiting = false;
        _output.Byte(EndOfContinuousUpdates);
        Flush();
    }

    void Want(ScreenArea area)
    {
        (_wanted, _isWaiting) = (area, true);
        _server.Schedule(soon: false);
    }

    ScreenArea Clip(ScreenArea area) => area with
    {
        Width = Math.Min(area.Right, _width) - area.X, Height = Math.Min(area.Bottom, _height) - area.Y,
    };

    static ScreenArea Join(ScreenArea one, ScreenArea other)
    {
        int x = Math.Min(one.X, other.X), y = Math.Min(one.Y, other.Y);
        return new ScreenArea(x, y, Math.Max(one.Right, other.Right) - x, Math.Max(one.Bottom, other.Bottom) - y);
    }

    /// <summary>Messages are answered in their order in any case; an update that is being made stands behind.</summary>
    void AnswerFence(ReadOnlySpan<byte> data)
    {
        const uint request = 0x8000_0000, known = 7;               // blocks before and after, synchronises the next
        uint flags = Dword(data, 4);
        if ((flags & request) != 0) SayFence(flags & known, data[FenceHead..]);
        Flush();
    }

    void PressButton(byte version, byte button)
    {
        if (_server.HasPower && (version, button) is (PowerVersion, PowerShutdown)) _server.Power.PowerDown();
        else if (_server.HasPower && (version, button) is (PowerVersion, PowerReset)) _server.Power.Reset();
        else SayPower(PowerFailed);                                // also of a reboot, which no button means
        Flush();
    }

    void SayPower(byte code) => _output.Dword(ServerPower << 24 | PowerVersion << 8 | code);

    void SayFence(uint flags, ReadOnlySpan<byte> payload)
    {
        _output.Dword(ServerFence << 24);
        _output.Dword((int)flags);
        _output.Byte(payload.Length);
        _output.Bytes(payload);
    }

    void MovePointer(byte buttons, int x, int y)
    {
        const byte WheelUp = 8, WheelDown = 16;
        byte pressed = (byte)(buttons & ~_buttons);
        _buttons = buttons;
        int wheel = (pressed & WheelDown) != 0 ? 1 : (pressed & WheelUp) != 0 ? -1 : 0;
        MouseButtons held = ((buttons & 1) != 0 ? MouseButtons.Left : 0)
            | ((buttons & 2) != 0 ? MouseButtons.Middle : 0)
            | ((buttons & 4) != 0 ? MouseButtons.Right : 0);
        if (_server.Input.PointerIsAbsolute)
            _server.Input.Pointer(Scale(x, _width), Scale(y, _height), wheel, held);
        else if (_encodings.CanChangePointer)
            _server.Input.Pointer(x - FirstPointerOffset, y - FirstPointerOffset, wheel, held);
        else
        {
            bool known = _pointerX >= 0;
            _server.Input.Pointer(known ? x - _pointerX : 0, known ? y - _pointerY : 0, wheel, held);
        }
        (_pointerX, _pointerY) = (x, y);
        _server.Schedule(soon: true);
    }

    static int Scale(int at, int size) => Math.Min(at, size - 1) * 0x7FFF / Math.Max(1, size - 1);
}
