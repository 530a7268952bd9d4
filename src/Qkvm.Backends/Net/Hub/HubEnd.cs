using System.Buffers;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Backends.Net.Hub;

/// <summary>What is plugged into a hub: frames for it wait, up to a bound, until its own loop hands them over. So no
/// end is called with the locks of another, and a slow one holds nobody up.</summary>
abstract class HubEnd
{
    const int LargestFrame = 4096 + 65536, MostBytes = 1 << 20, MostFrames = 1024;
    const int Burst = 64;                                          // frames at once, before others get their turn

    readonly IoLoop _loop;
    readonly Action _flush;
    readonly Queue<(byte[] Buffer, int Length)> _waiting = new();
    int _bytes;
    bool _isPosted, _isClosed;

    protected HubEnd(NetHub hub, IoLoop loop)
    {
        (Hub, _loop) = (hub, loop);
        _flush = Flush;
    }

    protected NetHub Hub { get; }

    /// <summary>Frames for which it had no room.</summary>
    public long Dropped { get; private set; }

    /// <summary>A buffer for one more frame; null: no room. From any thread.</summary>
    public byte[]? Rent(long length)
    {
        lock (_waiting)
        {
            if (!_isClosed && length <= LargestFrame && _bytes + length <= MostBytes && _waiting.Count < MostFrames)
                return ArrayPool<byte>.Shared.Rent((int)length);
            Dropped++;
            return null;
        }
    }

    public void Put(byte[] buffer, int length)
    {
        lock (_waiting)
        {
            if (_isClosed) return;
            _waiting.Enqueue((buffer, length));
            _bytes += length;
        }
        PostFlush();
    }

    /// <summary>Nothing is handed over any more, or from what the loop does next on.</summary>
    protected void Close()
    {
        Hub.Remove(this);
        lock (_waiting)
        {
            _isClosed = true;
            _waiting.Clear();                                      // not to the pool: one may be on its way
        }
    }

    protected void PostFlush()
    {
        lock (_waiting)
        {
            if (_isPosted || _isClosed) return;
            _isPosted = true;
        }
        _loop.Post(_flush);
    }

    /// <summary>On the loop.</summary>
    /// <returns>False: not now.</returns>
    protected abstract bool Deliver(Memory<byte> frame);

    void Flush()
    {
        lock (_waiting) _isPosted = false;
        for (int budget = Burst; budget > 0; budget--)
        {
            (byte[] Buffer, int Length) next;
            lock (_waiting)
                if (!_waiting.TryPeek(out next)) return;
            if (!Deliver(next.Buffer.AsMemory(0, next.Length))) return;
            lock (_waiting)
            {
                if (_isClosed) return;
                _waiting.Dequeue();
                _bytes -= next.Length;
            }
            ArrayPool<byte>.Shared.Return(next.Buffer);
        }
        PostFlush();
    }
}

/// <summary>A card at a hub.</summary>
sealed class HubCard : HubEnd, INetQueue
{
    readonly INetPort _port;
    readonly Action _onGone;

    public HubCard(NetHub hub, INetPort port, IoLoop loop, Action onGone) : base(hub, loop)
    {
        (_port, _onGone) = (port, onGone);
        hub.Add(this);
    }

    public void Accept(NetOffloads offloads) { }
    public void Send(in NetHeader header, in ScatterList frame) => Hub.Spread(this, frame);
    public void Resume() => PostFlush();

    public void Dispose()
    {
        Close();
        _onGone();
    }

    protected override bool Deliver(Memory<byte> frame) => _port.Receive(default, frame.Span);
}

/// <summary>A backend at a hub.</summary>
sealed class HubBackend : HubEnd, INetPort, IDisposable
{
    readonly INetQueue _queue;
    readonly Memory<byte>[] _frame = new Memory<byte>[1];          // of the loop

    public HubBackend(NetHub hub, NetBackend backend, IoLoop loop) : base(hub, loop)
    {
        _queue = backend.Open(0, this, loop);
        hub.Add(this);
    }

    /// <summary>There is always room: who has none at the other ends loses frames.</summary>
    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        Hub.Spread(this, frame);
        return true;
    }

    public void Dispose()
    {
        Close();
        _queue.Dispose();
    }

    protected override bool Deliver(Memory<byte> frame)
    {
        _frame[0] = frame;
        _queue.Send(default, new ScatterList(_frame));
        return true;
    }
}
