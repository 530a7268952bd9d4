using Qkvm.Backends.Display.Encodings;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>One viewer: its connection, what it can decode, and which tiles it has not seen yet. Spec: RFC 6143,
/// section 7.</summary>
/// <remarks>Nothing that a viewer sends or fails to read makes memory grow: input is parsed in a fixed buffer, no
/// update is made while the last one is still under way, and who does not read answers is not listened to. Main loop,
/// under the machine lock; a large update is encoded on the thread pool.</remarks>
sealed partial class VncClient : IConnectionUser
{
    const int MaxPending = 32 << 20, SmallUpdate = 1 << 14;        // pixels that are encoded at once
    const int MaxAnswers = 64 << 10;                               // bytes of them that wait to be read

    readonly VncServer _server;
    readonly VncSecurity _security;
    readonly VncPeer _peer;
    readonly EventLoop _loop;
    readonly Timer _handshake;
    readonly VncOutput _output = new(), _message = new();          // answers; the update that is being made
    readonly byte[] _input = new byte[4096];
    Connection _connection;
    int _inputCount, _answers;                                     // bytes sent beside updates, since all was read

    // The screen as the viewer knows it
    int _width, _height;
    readonly TileMap _tiles = new();
    readonly VncUpdate _update = new();
    bool _isEncoding, _isWaiting;
    (ScreenArea Area, int Distance)? _copy;
    ScreenArea _wanted;                                            // the part it waits for

    public VncClient(VncServer server, VncSecurity security, VncPeer peer, EventLoop loop)
    {
        (_server, _security, _loop, _peer) = (server, security, loop, peer);
        _encodings = new VncEncodings(server.IsLossy);
        _connection = new Connection(peer.Transport, loop, this, MaxPending);
        _handshake = new Timer(_ => loop.Post(GiveUpHandshake), null, server.HandshakeLimit, Timeout.InfiniteTimeSpan);
    }

    public SocketName PeerName => _peer.PeerName;
    public SocketName LocalName => _peer.LocalName;
    public bool IsWeb => _peer.IsWeb;

    /// <summary>It asked for the screen alone.</summary>
    public bool IsExclusive { get; private set; }

    /// <summary>It waits for an update, and has read the last one.</summary>
    public bool CanTakeUpdate => _isWaiting && !_isEncoding && _connection.Pending == 0;

    /// <summary>The guest's pointer, if it is told of it; so does who does not watch yet.</summary>
    public bool DrawsPointer => _phase != Phase.Normal || _encodings.Pointers != 0;

    /// <summary>It sees what the server's picture shows, waits for more, and can move parts of it itself.</summary>
    public bool CanCopy => _encodings.CanCopy && _phase == Phase.Normal && _copy == null && CanTakeUpdate
        && (_width, _height) == (_server.Picture.Width, _server.Picture.Height)
        && _wanted is { X: 0, Y: 0 } && _wanted.Width == _width && _wanted.Height == _height && _tiles.IsClean;

    /// <summary>For one that can: before its next pixels, an area becomes what lies some lines below.</summary>
    public void Copy(ScreenArea area, int distance) => _copy = (area, distance);

    public void Close()
    {
        if (_phase == Phase.Closed) return;
        _phase = Phase.Closed;
        _isWaiting = false;
        _handshake.Dispose();
        _connection.Dispose();
        ReleaseKeys();
        if (!_isEncoding) _encodings.Dispose();
        _server.Leave(this);
    }

    /// <summary>The server's picture has another size: all of it is new.</summary>
    public void OnResized()
    {
        _tiles.Resize(_server.Picture.Width, _server.Picture.Height);
        _copy = null;
    }

    public void MarkTile(int across, int down)
    {
        if (_phase == Phase.Normal) _tiles.Mark(across, down);
    }

    /// <summary>Sends what the viewer waits for, if there is anything.</summary>
    public void TryUpdate()
    {
        if (!CanTakeUpdate) return;
        if (_mapPending) PixelFormat.WriteColorMap(_message);
        _mapPending = false;
        int head = _message.Count;
        _message.Dword(0);                                         // FramebufferUpdate, the number of rectangles below
        int told = TellChanges(out bool isResized);
        if (!isResized && _copy is var (area, distance))
        {
            _message.Rectangle(area, VncEncodings.CopyRect);
            _message.Word(area.X);
            _message.Word(area.Y + distance);
            told++;
        }
        _copy = null;
        _update.Begin(_server.Picture);
        if (!isResized) CollectAreas(_server.Picture);             // else the viewer asks again for the new screen
        if (told > 0 || _update.Pixels > 0) _isWaiting = false;
        // What the viewer says meanwhile is for the next update.
        (VncEncoder encoder, PixelFormat format) = (_encodings.Encoder, _format);
        if (_update.Pixels <= SmallUpdate) { Finish(head, told + _update.Encode(_message, encoder, format)); return; }
        _isEncoding = true;
        Task.Run(() => _update.Encode(_message, encoder, format))
            .ContinueWith(task => _loop.Post(() => EndEncoding(head, told, task)), TaskScheduler.Default);
    }

    /// <summary>Runs of changed tiles, as far as the wanted part and the viewer's screen go.</summary>
    void CollectAreas(FrameBuffer picture)
    {
        int right = Math.Min(picture.Width, _width), bottom = Math.Min(picture.Height, _height), row = 0;
        var wanted = new ScreenArea(_wanted.X, _wanted.Y, Math.Min(right, _wanted.Right) - _wanted.X,
            Math.Min(bottom, _wanted.Bottom) - _wanted.Y);
        // Whole tiles, except at the edge of either screen.
        while (!_update.IsFull && _tiles.TryTake(wanted, ref row, out ScreenArea area))
            _update.Add(picture, area with
            {
                Width = Math.Min(area.Right, right) - area.X, Height = Math.Min(area.Bottom, bottom) - area.Y,
            });
    }

    void EndEncoding(int head, int told, Task<int> encoding)
    {
        _isEncoding = false;
        if (_phase == Phase.Closed) _encodings.Dispose();
        else if (encoding.IsCompletedSuccessfully) Finish(head, told + encoding.Result);
        else Close();
    }

    void Finish(int head, int rectangles)
    {
        if (rectangles == 0) _message.Return(4);
        else _message.Patch(head + 2, rectangles);
        foreach (ScreenArea area in _update.Left) _tiles.Mark(area);
        Send(_message);
        if (rectangles > 0 && _isContinuous) _isWaiting = true;
        if (rectangles > 0 && CanTakeUpdate) _server.Schedule(soon: false);
    }

    void GiveUpHandshake()
    {
        if (_phase < Phase.Normal) Close();
    }

    /// <summary>Hands what was made over to the connection. A viewer that lets more than two whole updates wait has
    /// gone mad.</summary>
    void Send(VncOutput output)
    {
        if (output.Count == 0) return;
        if (_connection.Write(output.Pending) < output.Count) Close();
        output.Clear();
    }

    void Flush()
    {
        if (_connection.Pending > 0) _answers += _output.Count;
        Send(_output);
    }

    int IConnectionUser.Room => _phase == Phase.Tls || _answers > MaxAnswers ? 0 : _input.Length - _inputCount;
    void IConnectionUser.Closed() => Close();
    void IConnectionUser.Writable() { }

    void IConnectionUser.Sent()
    {
        if (_answers > MaxAnswers && _phase != Phase.Tls)
        {
            _answers = 0;
            _connection.AcceptInput();
        }
        _answers = 0;
        TryTellOfCut();
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
