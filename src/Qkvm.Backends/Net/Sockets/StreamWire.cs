using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>One connection that carries frames: each is its length, 4 bytes big endian, and its bytes.</summary>
/// <remarks>The peer may be slow, dead or hostile: frames that it does not take in time are dropped, what cannot be a
/// frame ends the connection. The guest's frames come from any thread, the peer's are read on the card's
/// loop.</remarks>
sealed class StreamWire : IDisposable
{
    const int LengthField = 4;
    const int Burst = 64;                                          // frames at once, before others get their turn
    const int OutputSize = 4 * (LengthField + FrameCopy.Largest), InputSize = 2 * (LengthField + FrameCopy.Largest);

    readonly StreamSocket _socket;
    readonly Action<StreamWire> _onEnd;
    readonly Action _receive;
    readonly Action<FdEvents> _onReady;
    readonly Lock _sending = new(), _reading = new();
    readonly byte[] _output = new byte[OutputSize], _input = new byte[InputSize];
    int _outputStart, _outputEnd, _inputStart, _inputEnd;
    INetPort? _port;                                               // under _reading
    volatile IoLoop? _loop;
    FdEvents _watched;                                             // on the loop
    bool _isBlocked;                                               // the port has no room
    volatile bool _isEnded, _isClosed;

    /// <param name="onEnd">The peer has gone, or has sent what is no frame. From any thread, once.</param>
    public StreamWire(StreamSocket socket, Action<StreamWire> onEnd)
    {
        (_socket, _onEnd) = (socket, onEnd);
        (_receive, _onReady) = (Receive, OnReady);
        socket.SetNoDelay(true);
    }

    /// <summary>Frames that the peer did not take, and pieces of the peer's that are too short.</summary>
    public long Dropped { get; private set; }

    public SocketName PeerName => _socket.PeerName;

    /// <summary>A card takes the peer's frames from now on. Under the machine lock.</summary>
    public void Attach(INetPort port, IoLoop loop)
    {
        lock (_reading) (_port, _isBlocked) = (port, false);
        _loop = loop;
        loop.Post(_receive);
    }

    /// <summary>The card goes; the connection stays.</summary>
    public void Detach()
    {
        IoLoop? loop = _loop;
        _loop = null;
        lock (_reading) _port = null;
        loop?.Post(() => Watch(loop, FdEvents.None));
    }

    public void Resume()
    {
        _isBlocked = false;
        _loop?.Post(_receive);
    }

    /// <summary>From any thread, one at a time.</summary>
    public void Send(in ScatterList frame)
    {
        if (frame.Length > FrameCopy.Largest) { Dropped++; return; }
        int length = FrameCopy.LengthOf(frame);
        lock (_sending)
        {
            if (_isClosed || _isEnded) return;
            bool waits = _outputEnd > _outputStart;
            if (!MakeRoom(LengthField + length)) { Dropped++; return; }
            Span<byte> target = _output.AsSpan(_outputEnd, LengthField + length);
            BinaryPrimitives.WriteInt32BigEndian(target, length);
            FrameCopy.Copy(frame, target[LengthField..]);
            _outputEnd += target.Length;
            if (waits) return;
            Drain();
            if (_outputEnd == _outputStart) return;
        }
        _loop?.Post(_receive);                                     // which watches for room
    }

    /// <summary>Under the machine lock. The descriptor is closed where nobody watches it any more.</summary>
    public void Dispose()
    {
        if (_isClosed) return;
        _isClosed = true;
        IoLoop? loop = _loop;
        lock (_reading) _port = null;
        if (loop == null) Close();
        else
            loop.Post(() =>
            {
                Watch(loop, FdEvents.None);
                Close();
            });
    }

    void Close()
    {
        lock (_sending) _socket.Dispose();
    }

    bool MakeRoom(int length)
    {
        if (_output.Length - _outputEnd >= length) return true;
        int waiting = _outputEnd - _outputStart;
        if (_output.Length - waiting < length) return false;
        _output.AsSpan(_outputStart, waiting).CopyTo(_output);
        (_outputStart, _outputEnd) = (0, waiting);
        return true;
    }

    void Drain()
    {
        int n = _socket.Write(_output.AsSpan(_outputStart, _outputEnd - _outputStart));
        if (n < 0 && n != -Libc.EAgain) { End(); return; }
        _outputStart += Math.Max(n, 0);
        if (_outputStart == _outputEnd) (_outputStart, _outputEnd) = (0, 0);
    }

    void End()
    {
        if (_isEnded) return;
        _isEnded = true;
        _onEnd(this);
    }

    void OnReady(FdEvents events)
    {
        if ((events & FdEvents.Writable) != 0)
            lock (_sending)
                if (!_isEnded && !_isClosed) Drain();
        Receive();
    }

    /// <summary>On the loop.</summary>
    void Receive()
    {
        if (_loop is not { } loop || _isClosed) return;
        bool hasMore;
        lock (_reading) hasMore = !_isEnded && _port is { } port && !_isBlocked && ReceiveBurst(port);
        bool waits;
        lock (_sending) waits = _outputEnd > _outputStart;
        Watch(loop, _isEnded || _isClosed ? FdEvents.None : (_isBlocked ? FdEvents.None : FdEvents.Readable)
            | (waits ? FdEvents.Writable : FdEvents.None));
        if (hasMore) loop.Post(_receive);
    }

    /// <returns>Whether frames are left that no event announces.</returns>
    bool ReceiveBurst(INetPort port)
    {
        for (int budget = Burst; budget > 0;)
        {
            ReadOnlySpan<byte> input = _input.AsSpan(_inputStart, _inputEnd - _inputStart);
            uint length = input.Length < LengthField ? 0 : BinaryPrimitives.ReadUInt32BigEndian(input);
            if (length > FrameCopy.Largest) { End(); return false; }
            if (input.Length >= LengthField + length && input.Length >= LengthField)
            {
                if (!Deliver(port, input.Slice(LengthField, (int)length))) return false;
                _inputStart += LengthField + (int)length;
                budget--;
                continue;
            }
            if (!Fill()) return false;
        }
        return true;
    }

    bool Deliver(INetPort port, ReadOnlySpan<byte> frame)
    {
        if (frame.Length < FrameCopy.Header) { Dropped++; return true; }
        _isBlocked = true;                                         // before: Resume may come at once
        if (!port.Receive(default, frame)) return false;
        _isBlocked = false;
        return true;
    }

    bool Fill()
    {
        _input.AsSpan(_inputStart, _inputEnd - _inputStart).CopyTo(_input);
        (_inputStart, _inputEnd) = (0, _inputEnd - _inputStart);
        int n = _socket.Read(_input.AsSpan(_inputEnd));
        if (n > 0) _inputEnd += n;
        else if (n != -Libc.EAgain) End();
        return n > 0;
    }

    void Watch(IoLoop loop, FdEvents events)
    {
        if (_watched == events) return;
        _watched = events;
        if (events == FdEvents.None) loop.Unwatch(_socket.InputFd);
        else loop.Watch(_socket.InputFd, events, _onReady);
    }
}
