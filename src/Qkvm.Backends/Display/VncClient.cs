using System.Text;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>One viewer: its connection, what it can decode, and which tiles it has not seen yet. Spec: RFC 6143,
/// section 7.</summary>
/// <remarks>Nothing that a viewer sends or fails to read makes memory grow: input is parsed in a fixed buffer, and no
/// update is made while the last one is still under way.</remarks>
sealed partial class VncClient : IConnectionUser
{
    enum Phase { Version, Security, Init, Normal, Closed }

    const int MaxUpdateBytes = 16 << 20, MaxPending = MaxUpdateBytes * 2, MaxRectangles = 60_000;
    const int Raw = 0, HextileEncoding = 5, DesktopSize = -223, PointerTypeChange = -257, ExtendedKeys = -258,
        LedState = -261, VmwareLedState = 0x574D_5668;

    readonly VncServer _server;
    readonly Connection _connection;
    readonly Timer _handshake;
    readonly VncOutput _output = new();
    readonly byte[] _input = new byte[4096];
    int _inputCount;
    Phase _phase;
    int _minorVersion;

    // What the viewer asked for
    PixelFormat _format = PixelFormat.TryParse(PixelFormat.ServerFormat)!;
    bool _useHextile, _canResize, _canChangePointer, _hasExtendedKeys;
    bool _mapPending, _keysPending, _pointerPending, _pointerIsAbsolute;
    int _lightsEncoding;                                           // 0: it does not want them
    bool _lightsPending;
    KeyboardLocks _lights;                                         // as it knows them

    // The screen as the viewer knows it
    int _width, _height, _tilesAcross, _tilesDown;
    bool[] _dirty = [];
    bool _isWaiting;
    int _left, _top, _right, _bottom;                              // the part it waits for

    public VncClient(VncServer server, StreamSocket socket, EventLoop loop)
    {
        _server = server;
        PeerName = socket.PeerName;
        _connection = new Connection(socket, loop, this, MaxPending);
        _handshake = new Timer(_ => loop.Post(GiveUpHandshake), null, server.HandshakeLimit, Timeout.InfiniteTimeSpan);
    }

    public SocketName PeerName { get; }

    /// <summary>It asked for the screen alone.</summary>
    public bool IsExclusive { get; private set; }

    /// <summary>It waits for an update, and has read the last one.</summary>
    public bool CanTakeUpdate => _isWaiting && _connection.Pending == 0;

    public void Greet()
    {
        _output.Bytes("RFB 003.008\n"u8);
        Flush();
        _connection.AcceptInput();
    }

    public void Close()
    {
        if (_phase == Phase.Closed) return;
        _phase = Phase.Closed;
        _isWaiting = false;
        _handshake.Dispose();
        _connection.Dispose();
        ReleaseKeys();
        _server.Leave(this);
    }

    /// <summary>The server's picture has another size: all of it is new.</summary>
    public void OnResized()
    {
        _tilesAcross = (_server.Picture.Width + Hextile.TileSize - 1) / Hextile.TileSize;
        _tilesDown = (_server.Picture.Height + Hextile.TileSize - 1) / Hextile.TileSize;
        if (_dirty.Length < _tilesAcross * _tilesDown) _dirty = new bool[_tilesAcross * _tilesDown];
        Array.Fill(_dirty, true);
    }

    public void MarkTile(int across, int down)
    {
        if (_phase == Phase.Normal) _dirty[down * _tilesAcross + across] = true;
    }

    /// <summary>Sends what the viewer waits for, if there is anything.</summary>
    public void TryUpdate()
    {
        if (!CanTakeUpdate) return;
        if (_mapPending) PixelFormat.WriteColorMap(_output);
        _mapPending = false;
        int header = _output.Count, rectangles = 0;
        _output.Dword(0);                                          // FramebufferUpdate, the number of rectangles below
        if (_keysPending) Rectangle(0, 0, 0, 0, ExtendedKeys);
        _keysPending = false;
        bool absolute = _server.Input.PointerIsAbsolute;
        if (_canChangePointer && (_pointerPending || absolute != _pointerIsAbsolute))
            Rectangle(absolute ? 1 : 0, 0, 0, 0, PointerTypeChange);
        (_pointerPending, _pointerIsAbsolute) = (false, absolute);
        KeyboardLocks lights = _server.Input.Locks;
        if (_lightsEncoding != 0 && (_lightsPending || lights != _lights)) SendLights(lights);
        FrameBuffer picture = _server.Picture;
        if (_canResize && (picture.Width != _width || picture.Height != _height))
        {
            (_width, _height) = (picture.Width, picture.Height);
            Array.Fill(_dirty, true);
            // the last one: the viewer asks again for the new screen
            Rectangle(0, 0, _width, _height, DesktopSize);
        }
        else rectangles += SendTiles(picture, MaxRectangles);
        if (rectangles == 0) _output.Return(4);
        else
        {
            _output.Patch(header + 2, rectangles);
            _isWaiting = false;
        }
        Flush();

        void SendLights(KeyboardLocks now)
        {
            Rectangle(0, 0, 0, 0, _lightsEncoding);
            if (_lightsEncoding == LedState) _output.Byte((byte)now);
            else _output.Dword((int)now);
            (_lights, _lightsPending) = (now, false);
        }

        void Rectangle(int x, int y, int width, int height, int encoding)
        {
            rectangles++;
            this.Rectangle(x, y, width, height, encoding);
        }
    }

    /// <summary>Runs of changed tiles, as far as the wanted part, the viewer's screen and the limits go.</summary>
    int SendTiles(FrameBuffer picture, int limit)
    {
        int right = Math.Min(Math.Min(picture.Width, _width), _right),
            bottom = Math.Min(Math.Min(picture.Height, _height), _bottom), sent = 0;
        for (int down = _top / Hextile.TileSize; down * Hextile.TileSize < bottom; down++)
            for (int across = _left / Hextile.TileSize; across * Hextile.TileSize < right; across++)
            {
                Span<bool> row = _dirty.AsSpan(down * _tilesAcross, _tilesAcross);
                if (!row[across]) continue;
                if (sent == limit || _output.Count > MaxUpdateBytes) return sent;
                int first = across;
                while (across * Hextile.TileSize < right && row[across]) row[across++] = false;
                int x = first * Hextile.TileSize, y = down * Hextile.TileSize;
                // Whole tiles, except at the edge of either screen.
                SendRectangle(picture, x, y, Math.Min(across * Hextile.TileSize, Math.Min(picture.Width, _width)) - x,
                    Math.Min(y + Hextile.TileSize, Math.Min(picture.Height, _height)) - y);
                sent++;
            }
        return sent;
    }

    void SendRectangle(FrameBuffer picture, int x, int y, int width, int height)
    {
        Rectangle(x, y, width, height, _useHextile ? HextileEncoding : Raw);
        if (_useHextile) Hextile.Encode(_output, picture, _format, x, y, width, height);
        else for (int row = y; row < y + height; row++) _format.Convert(picture.Row(row).Slice(x, width),
            _output.Take(width * _format.BytesPerPixel));
    }

    void Rectangle(int x, int y, int width, int height, int encoding)
    {
        _output.Word(x);
        _output.Word(y);
        _output.Word(width);
        _output.Word(height);
        _output.Dword(encoding);
    }

    void SendServerInit()
    {
        OnResized();
        (_width, _height) = (_server.Picture.Width, _server.Picture.Height);
        _output.Word(_width);
        _output.Word(_height);
        _output.Bytes(PixelFormat.ServerFormat);
        byte[] name = Encoding.UTF8.GetBytes(_server.Name);
        _output.Dword(name.Length);
        _output.Bytes(name);
    }

    void GiveUpHandshake()
    {
        if (_phase < Phase.Normal) Close();
    }

    /// <summary>Hands what was made over to the connection. A viewer that lets more than two whole updates wait has
    /// gone mad.</summary>
    void Flush()
    {
        if (_connection.Write(_output.Pending) < _output.Count) Close();
        _output.Clear();
    }

    int IConnectionUser.Room => _input.Length - _inputCount;
    void IConnectionUser.Closed() => Close();
    void IConnectionUser.Writable() { }

    void IConnectionUser.Sent()
    {
        if (CanTakeUpdate) _server.Schedule(soon: false);
    }

    void IConnectionUser.Receive(Span<byte> data)
    {
        data.CopyTo(_input.AsSpan(_inputCount));
        _inputCount += data.Length;
        int at = 0, used;
        do
        {
            used = Consume(_input.AsSpan(at, _inputCount - at));
            at += used;
        } while (used > 0 && _phase != Phase.Closed);
        _input.AsSpan(at, _inputCount - at).CopyTo(_input);
        _inputCount -= at;
    }
}
