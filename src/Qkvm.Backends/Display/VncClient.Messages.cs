using System.Buffers.Binary;
using Qkvm.Core.Input;

namespace Qkvm.Backends.Display;

/// <summary>What viewers say: the handshake (RFC 6143, section 7.1 to 7.3) and their messages (section 7.5).</summary>
sealed partial class VncClient
{
    const int MaxCutText = 1 << 20;
    const int FirstPointerOffset = 0x7FFF;                         // of relative movements, "Pointer Motion Change"
    const byte SecurityNone = 1;

    // Messages
    const byte SetPixelFormat = 0, SetEncodings = 2, FramebufferUpdateRequest = 3, KeyEvent = 4, PointerEvent = 5,
        ClientCutText = 6, Qemu = 255;

    int _encodingsLeft, _textLeft;
    bool _encodingChosen;
    int _pointerX = -1, _pointerY;
    byte _buttons;

    /// <summary>Takes one message, or a part of a long one, from the front; returns its length, or 0 until more has
    /// come.</summary>
    int Consume(ReadOnlySpan<byte> data)
    {
        if (_textLeft > 0)
        {
            int skipped = Math.Min(_textLeft, data.Length);
            _textLeft -= skipped;
            return skipped;
        }
        int length = _phase switch
        {
            Phase.Version => 12,
            Phase.Security or Phase.Init => 1,
            _ => _encodingsLeft > 0 ? 4 : data.Length == 0 ? 1 : LengthOf(data),
        };
        if (length == 0) { Close(); return 0; }
        if (data.Length < length) return 0;
        data = data[..length];
        switch (_phase)
        {
            case Phase.Version: TakeVersion(data); break;
            case Phase.Security: TakeSecurity(data[0]); break;
            case Phase.Init: TakeInit(data[0] != 0); break;
            default:
                if (_encodingsLeft > 0) TakeEncoding(BinaryPrimitives.ReadInt32BigEndian(data));
                else TakeMessage(data);
                break;
        }
        return length;
    }

    /// <summary>The fixed part; 0 for what the protocol lacks.</summary>
    static int LengthOf(ReadOnlySpan<byte> data) => data[0] switch
    {
        SetPixelFormat => 20,
        SetEncodings => 4,
        FramebufferUpdateRequest => 10,
        KeyEvent => 8,
        PointerEvent => 6,
        ClientCutText => 8,
        Qemu => data.Length < 2 ? 2 : data[1] == 0 ? 12 : 0,
        _ => 0,
    };

    void TakeVersion(ReadOnlySpan<byte> version)
    {
        bool valid = version.StartsWith("RFB 003."u8) && version[11] == '\n'
            && !version[8..11].ContainsAnyExceptInRange((byte)'0', (byte)'9');
        if (!valid) { Close(); return; }
        int minor = (version[8] - '0') * 100 + (version[9] - '0') * 10 + version[10] - '0';
        _minorVersion = minor is 7 or 8 ? minor : 3;               // other numbers are to be taken for 3.3
        if (_minorVersion == 3)
        {
            _output.Dword(SecurityNone);
            _phase = Phase.Init;
        }
        else
        {
            _output.Byte(1);
            _output.Byte(SecurityNone);
            _phase = Phase.Security;
        }
        Flush();
    }

    void TakeSecurity(byte type)
    {
        bool accepted = type == SecurityNone;
        if (_minorVersion == 8)
        {
            _output.Dword(accepted ? 0 : 1);
            ReadOnlySpan<byte> reason = "this server offers security type None alone"u8;
            if (!accepted)
            {
                _output.Dword(reason.Length);
                _output.Bytes(reason);
            }
        }
        _phase = Phase.Init;
        Flush();
        if (!accepted) Close();
    }

    void TakeInit(bool shared)
    {
        if (!_server.Admit(this, shared)) { Close(); return; }
        IsExclusive = !shared;
        _phase = Phase.Normal;
        SendServerInit();
        Flush();
    }

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
                _encodingsLeft = BinaryPrimitives.ReadUInt16BigEndian(data[2..]);
                _useHextile = _encodingChosen = _canResize = _canChangePointer = _hasExtendedKeys = false;
                _lightsEncoding = 0;
                break;
            case FramebufferUpdateRequest: TakeRequest(data); break;
            case KeyEvent: TakeKey(Keysyms.Short(BinaryPrimitives.ReadUInt32BigEndian(data[4..])), data[1] != 0); break;
            case PointerEvent: MovePointer(data[1], BinaryPrimitives.ReadUInt16BigEndian(data[2..]),
                BinaryPrimitives.ReadUInt16BigEndian(data[4..])); break;
            case ClientCutText:
                uint length = BinaryPrimitives.ReadUInt32BigEndian(data[4..]);
                if (length > MaxCutText) { Close(); return; }
                _textLeft = (int)length;
                break;
            case Qemu:
                TakeScanCode(Keysyms.Short(BinaryPrimitives.ReadUInt32BigEndian(data[4..])),
                    BinaryPrimitives.ReadUInt32BigEndian(data[8..]),
                    BinaryPrimitives.ReadUInt16BigEndian(data[2..]) != 0);
                break;
        }
    }

    /// <summary>The viewer lists them in the order it likes them.</summary>
    void TakeEncoding(int encoding)
    {
        _encodingsLeft--;
        switch (encoding)
        {
            case Raw or HextileEncoding when !_encodingChosen: (_useHextile, _encodingChosen) =
                (encoding == HextileEncoding, true); break;
            case DesktopSize: _canResize = true; break;
            case PointerTypeChange: _canChangePointer = _pointerPending = true; break;
            case LedState or VmwareLedState when _lightsEncoding == 0: (_lightsEncoding, _lightsPending) =
                (encoding, true); break;
            case ExtendedKeys:
                _keysPending |= !_hasExtendedKeys;
                _hasExtendedKeys = true;
                break;
        }
    }

    void TakeRequest(ReadOnlySpan<byte> data)
    {
        int left = BinaryPrimitives.ReadUInt16BigEndian(data[2..]),
            top = BinaryPrimitives.ReadUInt16BigEndian(data[4..]);
        int right = Math.Min(left + BinaryPrimitives.ReadUInt16BigEndian(data[6..]), _width),
            bottom = Math.Min(top + BinaryPrimitives.ReadUInt16BigEndian(data[8..]), _height);
        if (data[1] == 0)                                          // not incremental: all of it again
            for (int down = top / Hextile.TileSize; down < _tilesDown && down * Hextile.TileSize < bottom; down++)
                for (int across = left / Hextile.TileSize; across < _tilesAcross
                    && across * Hextile.TileSize < right; across++)
                    MarkTile(across, down);
        // Requests that have not been answered yet are answered together.
        (_left, _top) = _isWaiting ? (Math.Min(left, _left), Math.Min(top, _top)) : (left, top);
        (_right, _bottom) = _isWaiting ? (Math.Max(right, _right), Math.Max(bottom, _bottom)) : (right, bottom);
        _isWaiting = true;
        _server.Schedule(soon: false);
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
        else if (_canChangePointer) _server.Input.Pointer(x - FirstPointerOffset, y - FirstPointerOffset, wheel, held);
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
