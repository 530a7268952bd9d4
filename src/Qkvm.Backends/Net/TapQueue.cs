using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Backends.Net;

/// <summary>One queue of a tap interface, as long as the backend lives.</summary>
/// <param name="detaches">The kernel gives it no frames while no card has it open: all but the first.</param>
sealed class TapQueue
{
    readonly TapDevice _tap;
    readonly bool _detaches;
    readonly GatherList _gather = new();                           // of one sender at a time

    public TapQueue(TapDevice tap, bool detaches)
    {
        (_tap, _detaches) = (tap, detaches);
        if (detaches) _tap.TryAttach(false);
        if (_tap.HeaderLength == 0) return;
        const uint All = TapDevice.Checksum | TapDevice.Tso4 | TapDevice.Tso6 | TapDevice.TsoEcn;
        if (_tap.TrySetOffloads(All))
            Known = NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6 | NetOffloads.TsoEcn;
        if (_tap.TrySetOffloads(All | TapDevice.Uso4 | TapDevice.Uso6)) Known |= NetOffloads.Uso;
        _tap.TrySetOffloads(0);
    }

    public int Fd => _tap.Fd;

    /// <summary>Bytes before each frame that is read.</summary>
    public int HeaderLength => _tap.HeaderLength;

    /// <summary>What the kernel knows, in both directions.</summary>
    public NetOffloads Known { get; }

    public long Dropped { get; private set; }

    public void Attach(bool isAttached)
    {
        if (_detaches) _tap.TryAttach(isAttached);
    }

    public void Accept(NetOffloads offloads)
    {
        if (_tap.HeaderLength == 0) return;
        uint bits = 0;
        if ((offloads & NetOffloads.Checksum) != 0)                // the others are nothing without it
        {
            bits = TapDevice.Checksum;
            if ((offloads & NetOffloads.Tso4) != 0) bits |= TapDevice.Tso4;
            if ((offloads & NetOffloads.Tso6) != 0) bits |= TapDevice.Tso6;
            if ((offloads & NetOffloads.TsoEcn) != 0) bits |= TapDevice.TsoEcn;
            if ((offloads & NetOffloads.Uso) != 0) bits |= TapDevice.Uso4 | TapDevice.Uso6;
        }
        _tap.TrySetOffloads(bits);
    }

    /// <returns>Bytes of header and frame, or 0: none now.</returns>
    public int Read(Span<byte> buffer) => _tap.Read(buffer);

    public void Write(in NetHeader header, in ScatterList frame)
    {
        Span<byte> raw = _gather.Begin(_tap.HeaderLength);
        if (raw.Length > 0)
        {
            raw.Clear();
            header.Write(raw);
        }
        bool fits = true;
        foreach (Memory<byte> piece in frame) fits &= _gather.Add(piece);
        if (!fits || _gather.WriteTo(_tap.Fd) != _gather.Length) Dropped++;
        _gather.Clear();
    }

    public void Close() => _tap.Dispose();
}

/// <summary>What a card holds of a tap queue.</summary>
sealed class TapEnd : INetQueue
{
    const int LargestFrame = 65536 + 64;
    const int Burst = 64;                                          // frames at once, before others get their turn

    readonly TapQueue _queue;
    readonly INetPort _port;
    readonly IoLoop _loop;
    readonly byte[] _buffer;
    readonly Action<FdEvents> _onReadable;
    readonly Action _resume;
    readonly Lock _reading = new();                                // the frame
    int _length;                                                   // of what the port had no room for
    bool _isWatching;                                              // on the loop
    bool _isGone;                                                  // the interface was deleted under us
    volatile bool _isClosed;

    public TapEnd(TapQueue queue, INetPort port, IoLoop loop)
    {
        (_queue, _port, _loop) = (queue, port, loop);
        _buffer = new byte[queue.HeaderLength + LargestFrame];
        (_onReadable, _resume) = (OnReadable, ResumeNow);
        queue.Attach(true);
        loop.Post(_resume);
    }

    public void Accept(NetOffloads offloads) => _queue.Accept(offloads);

    public void Send(in NetHeader header, in ScatterList frame)
    {
        if (_isClosed) return;
        _queue.Write(header, frame);
        if (IoLoop.Current != _loop) ReceiveAnswer();
    }

    public void Resume() => _loop.Post(_resume);

    public void Dispose()
    {
        if (_isClosed) return;
        _isClosed = true;
        _queue.Attach(false);
        _loop.Post(() => Watch(false));
    }

    void OnReadable(FdEvents events)
    {
        if ((events & FdEvents.Readable) != 0) Receive();
        if ((events & (FdEvents.Error | FdEvents.HangUp)) == 0) return;
        Watch(false);
        _isGone = true;
    }

    void ResumeNow()
    {
        if (_isClosed || _isGone) return;
        Receive();
    }

    /// <summary>What the host itself is asked it has answered by now, and the processor that asked takes it sooner than
    /// the loop wakes.</summary>
    void ReceiveAnswer()
    {
        const int Most = 4;
        if (!_reading.TryEnter()) return;                          // the loop is at it
        try
        {
            for (int i = 0; i < Most && _length == 0; i++)
            {
                _length = _queue.Read(_buffer);
                if (_length == 0) return;
                if (_length <= _queue.HeaderLength || Deliver()) _length = 0;
            }
        }
        finally { _reading.Exit(); }
    }

    void Receive()
    {
        bool isDone;
        lock (_reading) isDone = ReceiveBurst();
        Watch(isDone);
    }

    /// <returns>False: the port has no room.</returns>
    bool ReceiveBurst()
    {
        for (int budget = Burst; budget > 0; budget--)
        {
            if (_isClosed) return _isWatching;
            if (_length == 0) _length = _queue.Read(_buffer);
            if (_length == 0) break;
            if (_length > _queue.HeaderLength && !Deliver()) return false;
            _length = 0;
        }
        return true;
    }

    bool Deliver()
    {
        int skip = _queue.HeaderLength;
        NetHeader header = skip > 0 ? NetHeader.Read(_buffer) : default;
        return _port.Receive(header, _buffer.AsSpan(skip, _length - skip));
    }

    void Watch(bool on)
    {
        if (_isWatching == on || _isGone) return;
        _isWatching = on;
        if (on) _loop.Watch(_queue.Fd, FdEvents.Readable, _onReadable);
        else _loop.Unwatch(_queue.Fd);
    }
}
